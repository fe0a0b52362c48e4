"""Questions and graders."""
