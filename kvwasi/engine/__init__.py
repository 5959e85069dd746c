"""The guest engine as typed calls."""
