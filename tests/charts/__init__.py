"""The chart's generated files, made from the comments of its values.yaml."""
