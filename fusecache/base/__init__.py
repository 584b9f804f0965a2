"""Units, logging, metrics: what every process needs and nobody owns."""
