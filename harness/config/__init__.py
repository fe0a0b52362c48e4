"""Every setting once: schema, resolution from preset, file and flags, and the differences between two configs."""
