"""The commands, a noun each. They load gRPC, protobuf, rich and YAML only when they run."""
