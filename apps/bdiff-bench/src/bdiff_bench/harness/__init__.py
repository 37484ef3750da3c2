"""What benches share: jobs, processes, machine, provenance, plots."""
