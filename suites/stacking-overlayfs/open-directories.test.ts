import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { lowerOnFuse } from '../lib/overlay-on-fuse.ts';

/** Directories of an overlay that are open while what they list changes. */

guestTest(
  'a directory that is copied up while it is open shows the names of both layers',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', 'd/below']);
    await using overlay = await over(guest, client, layers);
    const fd = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    t.deepEqual(await client.readdirFd({ fd }), ['below'], 'the lower layer alone');
    await client.writeFile({ path: overlay.file('d/above'), data: '' });
    t.deepEqual(await client.readdir({ path: `${upper}/d` }), ['above'], 'copied up');
    t.deepEqual(await client.readdirFd({ fd }), ['above', 'below'], 'from its beginning again');
    await client.unlink({ path: overlay.file('d/below') });
    t.deepEqual(await client.readdirFd({ fd }), ['above'], 'one removed');
    await client.close({ fd });
  },
);

guestTest('a merged directory that is open shows what is moved to it and away from it', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  await fill(client, lower, ['d/', 'd/below', 'elsewhere']);
  await fill(client, upper, ['d/', 'd/above', 'new']);
  await using overlay = await over(guest, client, layers);
  const fd = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  t.deepEqual(await client.readdirFd({ fd }), ['above', 'below']);
  const moves: readonly (readonly [from: string, to: string, names: readonly string[]])[] = [
    ['elsewhere', 'd/of-below', ['above', 'below', 'of-below']],
    ['new', 'd/of-above', ['above', 'below', 'of-above', 'of-below']],
    ['d/of-below', 'away', ['above', 'below', 'of-above']],
    ['d/above', 'gone', ['below', 'of-above']],
  ];
  for (const [from, to, names] of moves) {
    await client.rename({ from: overlay.file(from), to: overlay.file(to) });
    // First who had it open: another open would read what has changed for both.
    t.deepEqual(await client.readdirFd({ fd }), names, `${from} to ${to}: read again`);
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), names, `${from} to ${to}: opened anew`);
  }
  await client.close({ fd });
});

guestTest(
  'a directory that is sought before it is read is sought in the names that it has by then',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = ''] = layers;
    await fill(client, lower, ['d/', 'd/a', 'd/b', 'd/c']);
    await using overlay = await over(guest, client, layers);
    const open = () => client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const rest = (fd: number) => client.readdirFd({ fd, bytes: 4096 });
    const early = await open();
    for (const [change, added] of [
      ['copied up since it was opened', ['above', 'above2']],
      ['changed since it was read', ['above3', 'above4']],
    ] as const) {
      for (const name of added) await client.writeFile({ path: overlay.file(`d/${name}`), data: '' });
      t.is(await client.lseek({ fd: early, offset: 3, whence: 'SEEK_SET' }), 3, change);
      const names = await rest(early);
      const late = await open();
      const all = await rest(late);
      await client.close({ fd: late });
      t.true(
        added.every((name) => all.includes(name)),
        `${change}: opened anew`,
      );
      t.deepEqual(names, all.slice(3), change);
      await client.lseek({ fd: early, offset: 0, whence: 'SEEK_SET' });
    }
    await client.close({ fd: early });
  },
);

guestTest(
  'names of the lowest layer keep their positions in a directory when others are made, and when they are copied up',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', ...['a', 'b', 'c', 'e', 'f'].map((name) => `d/${name}`)]);
    await fill(client, upper, ['d/', 'd/above']);
    await using overlay = await over(guest, client, layers);
    const fd = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const from = async (position: number) => {
      await client.lseek({ fd, offset: position, whence: 'SEEK_SET' });
      return client.readdirFd({ fd, bytes: 4096 });
    };
    const before = await from(0);
    t.is(before.at(-1), 'above', 'what only the upper layer has comes last');
    for (const name of ['new', 'newer'])
      await client.writeFile({ path: overlay.file(`d/${name}`), data: '' });
    await client.chmod({ path: overlay.file('d/b'), mode: 0o600 });
    await client.chmod({ path: overlay.file('d/e'), mode: 0o600 });
    const after = await from(0);
    t.deepEqual([...after].sort(), [...before, 'new', 'newer'].sort());
    const below = before.length - 1;
    t.deepEqual(after.slice(0, below), before.slice(0, below), 'in the same order, and before all others');
    t.deepEqual((await from(4)).slice(0, below - 4), before.slice(4, below), 'from where it was sought to');
    await client.close({ fd });
  },
);

guestTest(
  'a merged directory is read below once for all who have it open, and anew when nobody has',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    await fill(client, fuse.root, ['d/', 'd/below']);
    await client.writeFile({ path: overlay.file('d/above'), data: '' });
    const open = () => client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const read = async (fd: number, title: string) => {
      const after = await fuse.position();
      t.deepEqual(await client.readdirFd({ fd }), ['above', 'below'], title);
      return fuse.opcodes({ opcode: 'OPENDIR', path: '/d', after });
    };
    for (const round of ['first', 'second']) {
      const [one, other] = [await open(), await open()];
      t.deepEqual(await read(one, round), ['OPENDIR'], `${round} round: who reads it first`);
      t.deepEqual(await read(other, round), [], `${round} round: another who has it open`);
      await client.close({ fd: one });
      t.deepEqual(await read(other, round), [], `${round} round: when the first has closed it`);
      await client.close({ fd: other });
    }
  },
);
