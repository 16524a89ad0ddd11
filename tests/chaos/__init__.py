"""Programs that inject faults and report which promises were kept; `make chaos` runs them."""
