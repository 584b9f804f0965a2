"""The gRPC services of the CSI specification: requests are checked here, and carried out elsewhere."""
