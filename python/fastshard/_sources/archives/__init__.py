"""Archives of samples: tar, TFRecord, MDS, ZIP; and files of DICOM."""
