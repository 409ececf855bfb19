"""A TCP echo server and a load on it, as a plugin for aifactory-bench."""
