"""The command line: what people touch. Commands are imported when they are called, so that `--help` is quick."""
