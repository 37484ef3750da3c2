"""Results: reports, comparisons of models, and pages that show them."""
