// Plays the exchanges of a session with fetch() and tells what it saw; moments are unix seconds.
async (exchanges) => {
  const now = () => (performance.timeOrigin + performance.now()) / 1000;
  const until = (at) => new Promise((done) => setTimeout(done, Math.max(0, (at - now()) * 1000)));
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  const upload = (item, start) =>
    new ReadableStream({
      async start(pieces) {
        if (item.body) pieces.enqueue(bytes(item.body));
        for (const [due, data] of item.up) {
          await until(start + due);
          pieces.enqueue(bytes(data));
        }
        pieces.close();
      },
    });

  const run = async (item, due) => {
    await until(due);
    const start = now();
    const seen = { index: item.index, due, start, first: null, events: 0, size: 0, error: null };
    const stop = new AbortController();
    const timer = item.abort === null ? 0 : setTimeout(() => stop.abort(), item.abort * 1000);
    try {
      const options = { method: item.method, headers: item.headers, signal: stop.signal, cache: "no-store" };
      if (item.up.length) Object.assign(options, { body: upload(item, start), duplex: "half" });
      else if (item.body) options.body = bytes(item.body);
      const reply = await fetch(item.path, options);
      if (!reply.ok) throw new Error(`status ${reply.status}`);
      const reader = reply.body?.getReader();
      while (reader) {
        const { done, value } = await reader.read();
        if (done) break;
        seen.first ??= now();
        seen.events += 1;
        seen.size += value.length;
      }
    } catch (error) {
      if (!stop.signal.aborted) seen.error = String(error);
    }
    clearTimeout(timer);
    seen.end = now();
    return seen;
  };

  // One after the other; what is beside begins with the one before it, or with the first.
  const all = [];
  let begun = now();
  let ended = begun;
  let leading = exchanges.filter((item, at) => exchanges.slice(0, at + 1).every((one) => one.beside));
  for (let at = leading.length; at < exchanges.length; ) {
    begun = ended + exchanges[at].think;
    const main = run(exchanges[at], begun);
    const beside = leading;
    leading = [];
    for (at += 1; at < exchanges.length && exchanges[at].beside; at += 1) beside.push(exchanges[at]);
    all.push(main, ...beside.map((item) => run(item, begun + item.think)));
    const seen = await main;
    if (seen.error) break;
    ended = now();
  }
  all.push(...leading.map((item) => run(item, begun + item.think)));
  return Promise.all(all);
};
