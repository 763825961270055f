"""The catalogue of models that the chart ships: its figures, and what values make of it."""
