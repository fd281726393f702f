"""Clean-task performance: what an implant costs the model, against its base and its control."""
