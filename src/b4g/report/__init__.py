"""The report: reads the store only, writes one offline HTML file."""
