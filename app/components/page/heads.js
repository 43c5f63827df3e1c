// Head maps in the address, in the short form of app/links.py; the parts of the page know them as JSON.
const MOST_HEADS = 20000;

/** The short form of a head map (JSON); what has none stays as it is. */
function shortHeads(heads) {
  let map;
  try { map = JSON.parse(heads); } catch { return heads; }
  const layers = Object.keys(map).map(Number).sort((one, other) => one - other);
  const values = layers.flatMap(layer => map[layer]), width = values.length / layers.length;
  const whole = [layers.length, width, ...layers, ...values].every(one => Number.isInteger(one) && one >= 0 && one < 256);
  if (!whole || !width || values.length > MOST_HEADS || layers.some(layer => map[layer].length !== width)) return heads;
  const top = Math.max(...values);
  let number = 0n;
  for (const value of values) number = number * BigInt(top + 1) + BigInt(value);
  const digits = number ? number.toString(16) : '';
  const bytes = (digits.length % 2 ? `0${digits}` : digits).match(/../g) || [];
  const packed = [layers.length, width, top, ...layers, ...bytes.map(byte => parseInt(byte, 16))];
  const text = packed.map(byte => String.fromCharCode(byte)).join('');
  return `1${btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')}`;
}

/** The JSON of a head map in its short form; anything else stays as it is, and the server says what is wrong with it. */
function longHeads(heads) {
  if (!/^1[\w-]+$/.test(heads)) return heads;
  try {
    const text = atob(heads.slice(1).replaceAll('-', '+').replaceAll('_', '/'));
    const [count, width, top, ...rest] = [...text].map(letter => letter.charCodeAt(0));
    if (count * width > MOST_HEADS || rest.length < count) return heads;
    let number = BigInt(`0x0${rest.slice(count).map(byte => byte.toString(16).padStart(2, '0')).join('')}`);
    const values = [];
    for (let left = count * width; left > 0; left--, number /= BigInt(top + 1)) values.push(Number(number % BigInt(top + 1)));
    values.reverse();
    const row = index => values.slice(index * width, (index + 1) * width).join(', ');
    const json = `{${rest.slice(0, count).map((layer, index) => `"${layer}": [${row(index)}]`).join(', ')}}`;
    return shortHeads(json) === heads ? json : heads;
  } catch { return heads; }
}
