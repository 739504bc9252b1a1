"""Every speed and quality figure that the documents quote comes from here."""
