import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** What an overlay does when its layers are changed without it: it notices, and destroys nothing. */

/** Something in the upper layer that the overlay has not seen come, go or change, by what it believes of the name. */
interface Surprise {
  readonly what: string;
  /** With `f` and `d/` in the lower layer, `own` and `dir/` in the upper one, and a whiteout for `gone`. */
  readonly seen: (client: Client, at: string) => Promise<unknown>;
  readonly beneath: (client: Client, upper: string) => Promise<unknown>;
  readonly change: (client: Client, at: string) => Promise<string>;
  readonly gives: string;
}

const isThere = (name: string) => (client: Client, at: string) => client.lstat({ path: `${at}/${name}` });
const isNot = (name: string) => (client: Client, at: string) => client.errno.lstat({ path: `${at}/${name}` });
const another = (name: string) => async (client: Client, upper: string) => {
  await client.rename({ from: `${upper}/${name}`, to: `${upper}/aside` });
  await client.writeFile({ path: `${upper}/${name}`, data: 'another' });
};
const comes = (name: string) => (client: Client, upper: string) =>
  client.writeFile({ path: `${upper}/${name}`, data: 'another' });

const SURPRISES: readonly Surprise[] = [
  {
    what: 'a file is not made over one that has come',
    seen: isNot('x'),
    beneath: comes('x'),
    change: (client, at) => client.errno.mknod({ path: `${at}/x`, mode: 0o100_600 }),
    gives: 'ESTALE',
  },
  {
    what: 'a directory is not made over a file that has come',
    seen: isNot('x'),
    beneath: comes('x'),
    change: (client, at) => client.errno.mkdir({ path: `${at}/x` }),
    gives: 'ESTALE',
  },
  {
    what: 'a link is not made over a file that has come',
    seen: isNot('x'),
    beneath: comes('x'),
    change: (client, at) => client.errno.link({ from: `${at}/own`, to: `${at}/x` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file is not renamed to one that has come',
    seen: isNot('x'),
    beneath: comes('x'),
    change: (client, at) => client.errno.rename({ from: `${at}/own`, to: `${at}/x` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file is not renamed to where a whiteout has come',
    seen: isNot('x'),
    beneath: (client, upper) => client.mknod({ path: `${upper}/x`, mode: 0o020_000 }),
    change: (client, at) => client.errno.rename({ from: `${at}/own`, to: `${at}/x` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file is not made where a whiteout was replaced',
    seen: isNot('gone'),
    beneath: another('gone'),
    change: (client, at) => client.errno.mknod({ path: `${at}/gone`, mode: 0o100_600 }),
    gives: 'ESTALE',
  },
  {
    what: 'a file is not made where a whiteout has gone',
    seen: isNot('gone'),
    beneath: (client, upper) => client.unlink({ path: `${upper}/gone` }),
    change: (client, at) => client.errno.mknod({ path: `${at}/gone`, mode: 0o100_600 }),
    gives: 'ESTALE',
  },
  {
    what: 'a lower file does not change places with a whiteout that has gone',
    seen: isNot('gone'),
    beneath: (client, upper) => client.unlink({ path: `${upper}/gone` }),
    change: (client, at) => client.errno.rename({ from: `${at}/f`, to: `${at}/gone` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file is not renamed to where a whiteout was replaced',
    seen: isNot('gone'),
    beneath: another('gone'),
    change: (client, at) => client.errno.rename({ from: `${at}/own`, to: `${at}/gone` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file that has taken the place of another is not removed',
    seen: isThere('own'),
    beneath: another('own'),
    change: (client, at) => client.errno.unlink({ path: `${at}/own` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file that has taken the place of one copied up is not removed',
    seen: (client, at) => client.chmod({ path: `${at}/f`, mode: 0o600 }),
    beneath: another('f'),
    change: (client, at) => client.errno.unlink({ path: `${at}/f` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file that has taken the place of another is not renamed',
    seen: isThere('own'),
    beneath: another('own'),
    change: (client, at) => client.errno.rename({ from: `${at}/own`, to: `${at}/x` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file that has taken the place of another is not replaced',
    seen: isThere('own'),
    beneath: another('own'),
    change: (client, at) => client.errno.rename({ from: `${at}/f`, to: `${at}/own` }),
    gives: 'ESTALE',
  },
  {
    what: 'a file is not copied up over one that has come',
    seen: isThere('f'),
    beneath: comes('f'),
    change: (client, at) => client.errno.chmod({ path: `${at}/f`, mode: 0o600 }),
    gives: 'EEXIST',
  },
];

for (const { what, seen, beneath, change, gives } of SURPRISES) {
  guestTest(`layers changed beneath an overlay: ${what}`, async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['f', 'gone', 'd/']);
    await using overlay = await over(guest, client, layers);
    await client.unlink({ path: overlay.file('gone') });
    await client.writeFile({ path: overlay.file('own'), data: 'own' });
    await seen(client, overlay.path);
    await beneath(client, upper);
    const tree = async () =>
      (await client.tree({ path: upper })).map(({ path, content }) => ({ path, content }));
    const before = await tree();
    t.is(await change(client, overlay.path), gives);
    const after = (await tree()).filter(
      ({ path }) => path !== 'f' || before.some((each) => each.path === 'f'),
    );
    t.deepEqual(after, before, 'what is there stays, but for what was copied up');
  });
}

guestTest(
  'a file or directory that was moved from one layer to the other is stale while it is in use',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['f', 'd/']);
    await fill(client, upper, ['up/']);
    await using overlay = await over(guest, client, layers);
    const open: number[] = [];
    for (const name of ['f', 'd', 'up']) {
      open.push(await client.open({ path: overlay.file(name), flags: 'O_RDONLY' }));
    }
    for (const name of ['f', 'd']) {
      await client.rename({ from: `${lower}/${name}`, to: `${upper}/${name}-moved` });
      t.is(await client.errno.stat({ path: overlay.file(`${name}-moved`) }), 'ESTALE', `${name}, moved up`);
    }
    await client.rename({ from: `${upper}/up`, to: `${lower}/up-moved` });
    t.is(await client.errno.stat({ path: overlay.file('up-moved') }), 'ESTALE', 'moved down');
    for (const fd of open) await client.close({ fd });
  },
);

guestTest(
  'a directory in use that got another name in its layer is the same one under that name',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['low/', 'low/f', 'both/', 'both/f']);
    await fill(client, upper, ['up/', 'up/f', 'both/']);
    // Wherever it goes, what is below it is there.
    const mark = { path: `${upper}/both`, name: 'trusted.overlay.redirect', data: 'both' };
    await client.setxattr(mark);
    await using overlay = await over(guest, client, layers, 'redirect_dir=on');
    for (const [name, layer, gone] of [
      ['low', lower, 'ENOENT'],
      ['up', upper, 'ENOENT'],
      // Its old name would be that of the lower one alone, which is merged already.
      ['both', upper, 'ESTALE'],
    ] as const) {
      const [from, to] = [overlay.file(name), overlay.file(`${name}-moved`)];
      const fd = await client.open({ path: from, flags: 'O_RDONLY|O_DIRECTORY' });
      const { ino } = await client.fstat({ fd });
      await client.rename({ from: `${layer}/${name}`, to: `${layer}/${name}-moved` });
      t.is(await client.errno.stat({ path: to }), 'ok', `${name}: by its new name`);
      t.is((await client.stat({ path: to })).ino, ino, `${name}: its number`);
      t.deepEqual(await client.readdir({ path: to }), ['f'], `${name}: what is in it`);
      t.is(await client.readlink({ path: `/proc/${client.pid}/fd/${fd}` }), to, `${name}: where it is open`);
      t.is(await client.errno.stat({ path: from }), gone, `${name}: by its old name`);
      await client.close({ fd });
    }
  },
);

guestTest(
  'a lower directory that another name leads to cannot be had under its own at the same time',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', 'd/f']);
    await fill(client, upper, ['other/']);
    const data = 'd';
    await client.setxattr({ path: `${upper}/other`, name: 'trusted.overlay.redirect', data });
    await using overlay = await over(guest, client, layers, 'redirect_dir=on');
    t.deepEqual(await client.readdir({ path: overlay.file('other') }), ['f']);
    const fd = await client.open({ path: overlay.file('other'), flags: 'O_RDONLY|O_DIRECTORY' });
    t.is(await client.errno.stat({ path: overlay.file('d') }), 'ESTALE');
    await client.close({ fd });
  },
);

guestTest(
  'a file that got a second name beneath an overlay may lose the first and is linked on',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [, upper = ''] = layers;
    await fill(client, upper, ['a']);
    await using overlay = await over(guest, client, layers);
    await client.stat({ path: overlay.file('a') });
    await client.link({ from: `${upper}/a`, to: `${upper}/b` });
    const fd = await client.open({ path: overlay.file('b'), flags: 'O_RDONLY' });
    await client.unlink({ path: overlay.file('a') });
    t.is(await client.errno.link({ from: overlay.file('b'), to: overlay.file('c') }), 'ok');
    await client.close({ fd });
    t.deepEqual(await client.readdir({ path: upper }), ['b', 'c']);
  },
);

guestTest(
  'a file that was copied up has a number of its own as soon as its lower file gets a second name',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = ''] = layers;
    await fill(client, lower, ['a']);
    await using overlay = await over(guest, client, layers);
    const inoOf = async (name: string) => (await client.stat({ path: overlay.file(name) })).ino;
    const before = await inoOf('a');
    await client.truncate({ path: overlay.file('a'), length: 1 });
    t.is(await inoOf('a'), before, 'copied up');
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    // They differ now, and whoever copies a tree takes files of one number and several names for one file.
    t.not((await client.stat({ path: overlay.file('b') })).size, 1);
    t.not(await inoOf('a'), await inoOf('b'));
  },
);

guestTest('a name too far down to say where it came from is not moved: EXDEV', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = ''] = layers;
  const [first, second] = ['x'.repeat(120), 'y'.repeat(120)];
  await fill(client, lower, ['to/', `${first}/`, `${first}/${second}/`]);
  await fill(client, `${lower}/${first}/${second}`, ['short/', `${'z'.repeat(13)}/`, `${'z'.repeat(14)}/`]);
  await using overlay = await over(guest, client, layers, 'redirect_dir=on');
  for (const [name, gives] of [
    ['short', 'ok'],
    ['z'.repeat(13), 'ok'],
    ['z'.repeat(14), 'EXDEV'],
  ] as const) {
    const from = overlay.file(`${first}/${second}/${name}`);
    t.is(await client.errno.rename({ from, to: overlay.file(`to/${name}`) }), gives, `${name.length} bytes`);
  }
});
