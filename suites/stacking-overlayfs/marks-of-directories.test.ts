import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** Marks of directories in the upper layer: which are made with a directory, and what an earlier mount has left counts on. */

/** By options: whether layers may be changed while they are not mounted (overlayfs.rst), so that a new directory stays open to them. */
const MADE: Readonly<Record<string, boolean>> = {
  'redirect_dir=off,index=off,metacopy=off,xino=off': true,
  'redirect_dir=on,index=off,metacopy=off,xino=off': false,
  'redirect_dir=off,index=on,metacopy=off,xino=off': false,
};

guestTest(
  'a directory that is made hides what comes below later if it is in a merged one and layers may not be changed',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [options, changeable] of Object.entries(MADE)) {
      const layers = await layersOf(guest, 2);
      const [lower = '', upper = ''] = layers;
      await fill(client, lower, ['merged/', 'merged/low']);
      await fill(client, upper, ['pure/']);
      const marked = (name: string) =>
        client.errno.getxattr({ path: `${upper}/${name}`, name: 'trusted.overlay.opaque' });
      {
        await using overlay = await over(guest, client, layers, options);
        await fill(client, overlay.path, ['merged/made/', 'merged/made/in/', 'pure/made/', 'pure/made/in/']);
        t.is(
          await marked('merged/made'),
          changeable ? 'ENODATA' : 'ok',
          `${options}: the mark of a merged one`,
        );
        for (const name of ['merged/made/in', 'pure/made', 'pure/made/in']) {
          t.is(await marked(name), 'ENODATA', `${options}: no mark where nothing can be below: ${name}`);
        }
      }
      if (changeable) {
        await fill(client, lower, ['merged/made/', 'merged/made/later']);
        await using overlay = await over(guest, client, layers, options);
        const names = await client.readdir({ path: overlay.file('merged/made') });
        t.deepEqual(names, ['in', 'later'], `${options}: what the lower layer has got meanwhile is merged`);
      }
    }
  },
);

/** In the lower layer. */
const BELOW = [
  'p/',
  'p/near/',
  'p/near/x',
  'p/far/',
  'p/far/y',
  'p/out/',
  'p/out/sub/',
  'p/out/sub/z',
  'q/',
  'f',
];
/** One mount after the other. */
const MOVES: readonly Readonly<Record<string, string>>[] = [
  { 'p/near': 'p/near2', 'p/far': 'q/far2', 'p/out': 'p/out2', f: 'f2' },
  { 'p/near2': 'p/near3', 'q/far2': 'q/far3', 'p/out2/sub': 'q/sub', f2: 'f3' },
];
/** By name in the end: what it was at first. */
const MOVED: Readonly<Record<string, string>> = {
  'p/near3/x': 'p/near/x',
  'q/far3/y': 'p/far/y',
  'q/sub/z': 'p/out/sub/z',
  f3: 'f',
};

guestTest(
  'what was moved is moved on after another mount, and has what it had from below ever after (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, BELOW);
    const options = 'redirect_dir=on,metacopy=on';
    for (const [nth, moves] of MOVES.entries()) {
      await using overlay = await over(guest, client, layers, options);
      if (nth === 0) await client.chmod({ path: overlay.file('f'), mode: 0o600 });
      for (const [from, to] of Object.entries(moves)) {
        await client.rename({ from: overlay.file(from), to: overlay.file(to) });
      }
    }
    const mark = { path: `${upper}/f3`, name: 'trusted.overlay.metacopy' };
    t.is(await client.errno.getxattr(mark), 'ok', 'a file of metadata alone');
    await using overlay = await over(guest, client, layers, options);
    for (const [name, was] of Object.entries(MOVED)) {
      const path = overlay.file(name);
      t.is(await client.errno.stat({ path }), 'ok', `${name}: what is below it is found`);
      t.is(text(await client.readFile({ path })), `${was} at the bottom`, name);
    }
  },
);
