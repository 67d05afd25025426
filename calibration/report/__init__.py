"""The monitor's report: one HTML file for a head of department, read in two minutes."""
