"""The reader process: filesystem operations from index and tiers, and the miss client. No state that matters."""
