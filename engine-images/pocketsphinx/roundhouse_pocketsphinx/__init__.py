"""CMU PocketSphinx as a Roundhouse engine."""
