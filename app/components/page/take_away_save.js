// The file that the server made, saved as if its link had been clicked.
file => {
  if (!file?.url) return [];
  const link = document.createElement('a');
  link.href = file.url;
  link.download = file.orig_name || '';
  document.body.append(link);
  link.click();
  link.remove();
  return [];
}
