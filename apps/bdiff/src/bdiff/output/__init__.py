"""What a run leaves: video, contact sheet, trace."""
