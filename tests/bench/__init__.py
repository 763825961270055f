"""`make bench`: what Roundhouse reaches, each speed beside a reference. See docs/reference/performance.md."""
