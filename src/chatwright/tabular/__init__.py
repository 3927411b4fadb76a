"""Tables and texts from users' files: encodings, CSV and XLSX. Knows no record types."""
