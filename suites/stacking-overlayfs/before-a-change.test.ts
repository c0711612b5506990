import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { layersOnFuse, upperOnFuse, WORK_DIR } from '../lib/overlay-on-fuse.ts';

/** What an overlay has to do before it can change a name, and that without it nothing is changed. */

interface Within {
  readonly what: string;
  /** `at` has `dir/` in the lower layer alone, with a file, a `sub/` and a link to the file; `old` is in the upper layer. */
  readonly change: (client: Client, at: string, old: string) => Promise<string>;
  /** Linux 6.1 does not have it. */
  readonly later?: boolean;
}

const WITHIN: readonly Within[] = [
  { what: 'a file made', change: (client, at) => client.errno.creat({ path: `${at}/new` }) },
  { what: 'a directory made', change: (client, at) => client.errno.mkdir({ path: `${at}/new` }) },
  {
    what: 'a fifo made',
    change: (client, at) => client.errno.mknod({ path: `${at}/new`, mode: 0o010_644 }),
  },
  {
    what: 'a symbolic link made',
    change: (client, at) => client.errno.symlink({ path: `${at}/new`, target: 'f' }),
  },
  {
    what: 'a link made of an upper file',
    change: (client, at, old) => client.errno.link({ from: old, to: `${at}/new` }),
  },
  {
    what: 'an upper file moved there',
    change: (client, at, old) => client.errno.rename({ from: old, to: `${at}/new` }),
  },
  { what: 'a file removed', change: (client, at) => client.errno.unlink({ path: `${at}/f` }) },
  { what: 'a directory removed', change: (client, at) => client.errno.rmdir({ path: `${at}/sub` }) },
  {
    what: 'a file renamed',
    change: (client, at) => client.errno.rename({ from: `${at}/f`, to: `${at}/new` }),
  },
  {
    what: 'a file without a name made',
    change: (client, at) => client.errno.open({ path: at, flags: 'O_TMPFILE|O_RDWR', mode: 0o600 }),
    later: true,
  },
];

guestTest('nothing changes in a lower directory that cannot be copied up', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse, lower } = stack;
  const cases = WITHIN.filter(({ later = false }) => !later || guest.expected.overlaysWithDataLayers);
  for (const [nth, { what, change }] of cases.entries()) {
    const [dir, old] = [`dir${nth}`, overlay.file(`old${nth}`)];
    await fill(client, lower, [`${dir}/`, `${dir}/f`, `${dir}/sub/`]);
    await client.writeFile({ path: old, data: '' });
    const at = overlay.file(dir);
    const tree = async () => (await client.tree({ path: at })).map(({ path, content }) => [path, content]);
    const working = () => client.readdir({ path: fuse.backing(WORK_DIR) });
    const [before, left] = [await tree(), await working()];
    const permit = await fuse.fail('MKDIR', 'EDQUOT');
    t.is(await change(client, at, old), 'EDQUOT', what);
    await permit();
    t.deepEqual(await tree(), before, `${what}: what is in it`);
    t.is(await client.errno.stat({ path: fuse.backing(`upper/${dir}`) }), 'ENOENT', `${what}: upper layer`);
    t.deepEqual(await working(), left, `${what}: work directory`);
    t.is(await client.errno.stat({ path: old }), 'ok', `${what}: the upper file`);
    t.is(await change(client, at, old), 'ok', `${what}: allowed`);
    t.is(await client.errno.stat({ path: fuse.backing(`upper/${dir}`) }), 'ok', `${what}: copied up`);
  }
});

guestTest(
  'a file is not copied up to a directory that cannot be marked as one that has such files',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['d/', 'd/f', 'd/sub/']);
    await client.chmod({ path: overlay.file('d'), mode: 0o755 });
    for (const name of ['f', 'sub']) {
      const change = () => client.errno.chmod({ path: overlay.file(`d/${name}`), mode: 0o700 });
      const permit = await fuse.fail({ opcode: 'SETXATTR', path: '/upper/d' }, 'EDQUOT');
      t.is(await change(), 'EDQUOT', name);
      await permit();
      t.deepEqual(await client.readdir({ path: fuse.backing('upper/d') }), [], `${name}: upper layer`);
    }
    for (const name of ['f', 'sub']) {
      t.is(await client.errno.chmod({ path: overlay.file(`d/${name}`), mode: 0o700 }), 'ok', name);
    }
    const mark = { path: fuse.backing('upper/d'), name: 'trusted.overlay.impure' };
    t.is(await client.errno.getxattr(mark), 'ok');
  },
);

guestTest(
  'a file of two names is neither linked nor replaced when its links cannot be counted (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.backing('lower'), ['a']);
    await client.link({ from: fuse.file('lower/a'), to: fuse.file('lower/b') });
    await using overlay = await layers.mount('index=on');
    await client.chmod({ path: overlay.file('a'), mode: 0o600 });
    await client.writeFile({ path: overlay.file('new'), data: 'new' });
    const changes = {
      link: () => client.errno.link({ from: overlay.file('a'), to: overlay.file('c') }),
      rename: () => client.errno.rename({ from: overlay.file('new'), to: overlay.file('a') }),
    };
    const tree = async () => (await client.tree({ path: overlay.path })).map(({ path, ino }) => [path, ino]);
    for (const [what, change] of Object.entries(changes)) {
      const before = await tree();
      const permit = await fuse.fail('SETXATTR', 'EDQUOT');
      t.is(await change(), 'EDQUOT', what);
      await permit();
      t.deepEqual(await tree(), before, `${what}: nothing has changed`);
    }
    for (const [what, change] of Object.entries(changes)) t.is(await change(), 'ok', `${what}: later`);
    t.is((await client.stat({ path: overlay.file('b') })).nlink, 2, 'b and c');
  },
);

guestTest(
  'a file that is metadata alone gets no other name when where its data are cannot be said (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, 'metacopy=on,redirect_dir=on');
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['f']);
    await client.chmod({ path: overlay.file('f'), mode: 0o600 });
    const link = () => client.errno.link({ from: overlay.file('f'), to: overlay.file('g') });
    const permit = await fuse.fail('SETXATTR', 'EDQUOT');
    // As rename does it, so that it is copied by the program (EXDEV, link(2)).
    t.is(await link(), 'EXDEV');
    await permit();
    t.is(await client.errno.lstat({ path: overlay.file('g') }), 'ENOENT');
    t.is(await link(), 'ok');
    const names = {
      f: await client.stat({ path: overlay.file('f') }),
      g: await client.stat({ path: overlay.file('g') }),
    };
    t.is(names.f.ino, names.g.ino);
    const redirect = { path: fuse.backing('upper/g'), name: 'trusted.overlay.redirect' };
    t.is(await client.errno.getxattr(redirect), 'ok');
  },
);
