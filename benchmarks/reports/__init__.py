"""What a run found, written down: `data` is what can be shown, `report` the HTML file, `terminal` the short table,
`markdown` the results pages; `thumbnails` draws faces, `charts` (on `svg`) and `tables` (on `text`) fill the report."""
