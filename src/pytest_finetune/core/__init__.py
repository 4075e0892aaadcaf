"""The pure core: records, claims, statistics the gate. No files, clock, environment, network, pytest."""
