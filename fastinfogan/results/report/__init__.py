"""report.html: one page that says what a run was, and what came of it."""
