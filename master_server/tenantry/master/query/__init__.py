"""NQL on this Master: streams as Arrow, DuckDB in processes of its own over them, and the desk that hands out queries."""
