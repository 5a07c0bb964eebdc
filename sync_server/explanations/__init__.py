"""Why an operation ended as it did, and why a device has or lacks a row: evidence in, sentences out."""
