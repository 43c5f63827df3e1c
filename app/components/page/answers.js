// Answers of gradio come in one stream, which the server ends when nothing of the page is waited for. Its client does not look
// whether something is by now: a request made while that word was on its way waited for ever, most easily the first texts of
// Generate. Here the word is kept from it while something is waited for, and the stream goes on in a new one.
(() => {
  const plain = window.fetch.bind(window), waited = new Set(), early = new Set();
  let asking = 0;  // requests whose event has no number yet

  async function join(input, init) {
    asking += 1;
    try {
      const answer = await plain(input, init);
      const {event_id} = answer.ok ? await answer.clone().json() : {};
      if (event_id && !early.delete(event_id)) waited.add(event_id);
      return answer;
    } finally {
      asking -= 1;
    }
  }

  // Whether gradio's client is to see this message. Few are read here: charts may be large, and texts come word by word.
  function passes(message) {
    if (!/"msg": ?"(process_completed|close_stream)"/.test(message)) return true;
    let told;
    try { told = JSON.parse(message.replace(/^data:/, '')); } catch { return true; }
    if (told?.msg === 'process_completed' && told.event_id && !waited.delete(told.event_id)) early.add(told.event_id);
    return told?.msg !== 'close_stream' || !(asking || waited.size);
  }

  async function answers(input, init) {
    const first = await plain(input, init);
    if (!first.ok || !first.body) return first;
    const encoder = new TextEncoder();
    let reader, decoder, rest;
    const read_from = answer => { reader = answer.body.getReader(); decoder = new TextDecoder(); rest = ''; };
    read_from(first);
    const body = new ReadableStream({
      async pull(controller) {
        for (;;) {
          const {done, value} = await reader.read();
          if (done) {
            if (rest) controller.enqueue(encoder.encode(rest));
            return controller.close();
          }
          const messages = (rest + decoder.decode(value, {stream: true})).split('\n\n');
          rest = messages.pop();
          const shown = [];
          let ends = false;
          for (const message of messages) if (passes(message)) shown.push(message + '\n\n'); else ends = true;
          if (ends) {  // it is the last one
            const next = await plain(input, init);
            if (next.ok && next.body) read_from(next);
            else shown.push('data: {"msg": "close_stream"}\n\n');
          }
          if (shown.length) return controller.enqueue(encoder.encode(shown.join('')));
        }
      },
      cancel: reason => reader.cancel(reason),
    });
    return new Response(body, {status: first.status, statusText: first.statusText, headers: first.headers});
  }

  window.fetch = (input, init) => {
    const {pathname} = new URL(input instanceof Request ? input.url : input, document.baseURI);
    if (pathname.endsWith('/queue/join')) return join(input, init);
    return pathname.endsWith('/queue/data') ? answers(input, init) : plain(input, init);
  };
})();
