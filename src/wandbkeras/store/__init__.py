"""The run store: directories of Parquet, journals and blobs that know neither Keras nor W&B."""
