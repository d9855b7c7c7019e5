"""The process: schedules of noise, what a network predicts of it, time grids and plans."""
