"""Forward paths for processors, compiled by numba."""
