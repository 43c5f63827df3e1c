/* The command of the part Tune: a button copies it, and says so to screen readers too. */
element.addEventListener('click', async event => {
  const button = event.target.closest('[data-copy]');
  if (!button) return;
  if (button.textContent === button.dataset.done) return;
  const words = button.textContent, pre = button.closest('.command').querySelector('pre');
  try {
    await navigator.clipboard.writeText(pre.textContent);
  } catch {  // a page that is not served from this machine or over https has no clipboard: select it instead
    getSelection().selectAllChildren(pre);
    document.execCommand('copy');
  }
  button.textContent = button.dataset.done;  // it is a live region
  setTimeout(() => { button.textContent = words; }, 1500);
});
