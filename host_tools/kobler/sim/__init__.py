"""The virtual board. POSIX only; nothing outside this package imports it before it is needed."""
