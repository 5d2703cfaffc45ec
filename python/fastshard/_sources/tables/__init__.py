"""Tables and arrays: CSV, Parquet, Arrow, data frames, NumPy."""
