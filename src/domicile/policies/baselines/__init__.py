"""What others do, each from its own source, to compare with and to fall back on."""
