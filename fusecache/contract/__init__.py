"""What two processes must agree on: error kinds, mount spec, messages, shared memory."""
