"""The command line: what people and scripts say to fusecache, and the demo that shows it."""
