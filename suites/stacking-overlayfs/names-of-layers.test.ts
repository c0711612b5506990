import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** What is made, moved and removed through FUSE on an overlay, and what the layers hold then. */

const OVERLAYFS_MAGIC = 0x794c_7630;
/** Whole seconds, so that every filesystem can store them. */
const LONG_AGO_NS = 1_500_000_000_000_000_000;
/** `ACL_EA_VERSION`, then u16 tag, u16 permissions, u32 id: the owner, user 1500, group, mask, others. */
const ACL = Buffer.from(
  '0200000001000600ffffffff02000700dc05000004000400ffffffff10000700ffffffff20000000ffffffff',
  'hex',
);

/** FUSE over an overlay, and how to make it anew over the same layers: nothing is remembered then. */
async function overlayed(
  guest: TestGuest,
  client: Client,
  prepare: (lower: string) => Promise<unknown>,
  options?: string,
) {
  const lower = await guest.directory('ext4', 'lower');
  const { upper, work } = await upperOn(guest);
  await prepare(lower);
  let undo = new AsyncDisposableStack();
  const mount = async () => {
    const overlay = undo.use(await guest.mountOverlay({ lower, upper, work, options }, client));
    const fuse = undo.use(await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } }));
    return { overlay, fuse };
  };
  const first = await mount();
  return {
    ...first,
    lower,
    upper,
    work,
    again: async () => {
      await undo.disposeAsync();
      undo = new AsyncDisposableStack();
      return mount();
    },
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}

guestTest('a directory that has files in a lower layer is neither removed nor replaced', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayed(guest, client, async (lower) => {
    await client.mkdir({ path: `${lower}/full` });
    await client.writeFile({ path: `${lower}/full/f`, data: 'below' });
  });
  const { fuse } = stack;
  await client.mkdir({ path: fuse.file('empty') });
  t.is(await client.errno.rmdir({ path: fuse.file('full') }), 'ENOTEMPTY');
  t.is(await client.errno.rename({ from: fuse.file('empty'), to: fuse.file('full') }), 'ENOTEMPTY');
  t.is(text(await client.readFile({ path: fuse.file('full/f') })), 'below');
  await client.unlink({ path: fuse.file('full/f') });
  t.is(
    await client.errno.rename({ from: fuse.file('empty'), to: fuse.file('full') }),
    'ok',
    'with whiteouts alone',
  );
  t.deepEqual(await client.readdir({ path: stack.upper }), ['full'], 'no whiteout is left');
  const again = await stack.again();
  t.deepEqual(await client.readdir({ path: again.fuse.path }), ['full']);
  t.deepEqual(await client.readdir({ path: again.fuse.file('full') }), [], 'nothing of below shows');
});

guestTest(
  'what is moved to a removed name stays itself, and the old name stays removed',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayed(guest, client, async (lower) => {
      for (const name of ['d', 'e']) {
        await client.mkdir({ path: `${lower}/${name}` });
        await client.writeFile({ path: `${lower}/${name}/f`, data: `below ${name}` });
      }
      for (const name of ['a', 'b']) await client.writeFile({ path: `${lower}/${name}`, data: name });
    });
    const { fuse } = stack;
    // A directory of the upper layer, to a name of the lower one that was removed.
    await client.unlink({ path: fuse.file('d/f') });
    await client.rmdir({ path: fuse.file('d') });
    await client.mkdir({ path: fuse.file('new') });
    await client.writeFile({ path: fuse.file('new/n'), data: 'new' });
    await client.rename({ from: fuse.file('new'), to: fuse.file('d') });
    // One within a merged directory, to a name that the lower layer has not, and back.
    await client.mkdir({ path: fuse.file('e/x') });
    await client.rename({ from: fuse.file('e/x'), to: fuse.file('y') });
    // A file of the lower layer, to a name that was removed.
    await client.unlink({ path: fuse.file('b') });
    await client.rename({ from: fuse.file('a'), to: fuse.file('b') });
    const look = async (top: { file: (name: string) => string; path: string }) => ({
      names: await client.readdir({ path: top.path }),
      d: await client.readdir({ path: top.file('d') }),
      e: await client.readdir({ path: top.file('e') }),
      b: text(await client.readFile({ path: top.file('b') })),
      a: await client.errno.stat({ path: top.file('a') }),
      new: await client.errno.stat({ path: top.file('new') }),
    });
    const expected = { names: ['b', 'd', 'e', 'y'], d: ['n'], e: ['f'], b: 'a', a: 'ENOENT', new: 'ENOENT' };
    t.deepEqual(await look(fuse), expected);
    t.is(
      await client.errno.lstat({ path: `${stack.upper}/new` }),
      'ENOENT',
      'no whiteout where nothing is below',
    );
    t.deepEqual(await look((await stack.again()).fuse), expected, 'mounted again');
  },
);

guestTest(
  'a directory that is moved into a merged one hides what that has under its name',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayed(guest, client, async (lower) => {
      await client.mkdir({ path: `${lower}/d` });
    });
    await client.mkdir({ path: stack.fuse.file('new') });
    await client.writeFile({ path: stack.fuse.file('new/n'), data: 'new' });
    await client.rename({ from: stack.fuse.file('new'), to: stack.fuse.file('d/name') });
    // What the lower layer gets while nobody has it mounted must not mix with it.
    await stack.fuse.unmount();
    await stack.overlay.unmount();
    await client.mkdir({ path: `${stack.lower}/d/name` });
    await client.writeFile({ path: `${stack.lower}/d/name/stray`, data: 'stray' });
    const { fuse } = await stack.again();
    t.deepEqual(await client.readdir({ path: fuse.file('d/name') }), ['n']);
  },
);

guestTest(
  'what is made where a name was removed has the mode and the lists that its directory gives',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayed(guest, client, async (lower) => {
      await client.mkdir({ path: `${lower}/d` });
      await client.chmod({ path: `${lower}/d`, mode: 0o2777 });
      await client.setxattr({
        path: `${lower}/d`,
        name: 'system.posix_acl_default',
        data: new Uint8Array(ACL),
      });
      for (const name of ['f', 'sub']) await client.writeFile({ path: `${lower}/d/${name}`, data: 'below' });
    });
    const at = (name: string): string => stack.overlay.file(`d/${name}`);
    const acl = async (name: string, kind: 'access' | 'default'): Promise<string> => {
      const path = `${stack.upper}/d/${name}`;
      return Buffer.from(await client.getxattr({ path, name: `system.posix_acl_${kind}` })).toString('hex');
    };
    await client.umask({ mask: 0o077 });
    for (const name of ['fresh', 'f']) {
      if (name === 'f') await client.unlink({ path: at(name) });
      await client.close({ fd: await client.open({ path: at(name), flags: 'O_RDWR|O_CREAT', mode: 0o666 }) });
    }
    for (const name of ['fresh-sub', 'sub']) {
      if (name === 'sub') await client.unlink({ path: at(name) });
      await client.mkdir({ path: at(name), mode: 0o777 });
    }
    const mode = async (name: string): Promise<string> =>
      ((await client.stat({ path: `${stack.upper}/d/${name}` })).mode & 0o7777).toString(8);
    t.is(await mode('f'), await mode('fresh'), 'the mode of a file');
    t.is(await mode('sub'), await mode('fresh-sub'), 'the mode of a directory');
    t.is(await acl('f', 'access'), await acl('fresh', 'access'), 'the list of a file');
    t.regex(await acl('f', 'access'), /dc050000/, 'it names user 1500');
    t.is(await acl('sub', 'default'), ACL.toString('hex'), 'the default list of a directory');
  },
);

guestTest('an overlay refuses what would look like its own marks', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayed(guest, client, (lower) =>
    client.writeFile({ path: `${lower}/f`, data: 'below' }),
  );
  const { overlay, upper } = stack;
  const device = { path: overlay.file('w'), mode: 0o020_600, major: 0, minor: 0 };
  t.is(await client.errno.mknod(device), 'EPERM', 'a device that is a whiteout');
  t.is(await client.errno.mknod({ ...device, minor: 1 }), 'ok', 'another one');
  const names = { from: overlay.file('f'), to: overlay.file('g') };
  t.is(await client.errno.rename({ ...names, flags: 'RENAME_WHITEOUT' }), 'EINVAL', 'RENAME_WHITEOUT');
  const mark = { path: overlay.file('f'), name: 'trusted.overlay.opaque' };
  if (guest.expected.hasIoModes) {
    t.is(await client.errno.setxattr({ ...mark, data: 'y' }), 'ok', 'an attribute of that name, since 6.7');
    t.is(text(await client.getxattr(mark)), 'y', 'read back through the overlay');
    t.is(await client.errno.getxattr({ ...mark, path: `${upper}/f` }), 'ENODATA', 'is not the mark itself');
    t.deepEqual(await client.listxattr({ path: overlay.file('f') }), [mark.name], 'listed by its name');
  } else {
    t.is(await client.errno.setxattr({ ...mark, data: 'y' }), 'EOPNOTSUPP', 'an attribute of that name');
  }
});

guestTest(
  'attributes on an overlay are those of the file below, with its own ones hidden (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayed(guest, client, async (lower) => {
      await client.writeFile({ path: `${lower}/f`, data: 'below' });
      await client.chmod({ path: `${lower}/f`, mode: 0o644 });
      await client.setxattr({ path: `${lower}/f`, name: 'trusted.word', data: 'value' });
      await client.setxattr({ path: `${lower}/f`, name: 'user.word', data: 'value' });
    });
    const { overlay, upper } = stack;
    const path = overlay.file('f');
    t.is(await client.errno.removexattr({ path, name: 'user.none' }), 'ENODATA');
    t.deepEqual(await client.readdir({ path: upper }), [], 'which copies nothing up');
    const before = await client.stat({ path });
    await client.setxattr({ path, name: 'user.more', data: 'x' });
    t.deepEqual(await client.readdir({ path: upper }), ['f'], 'setting one does');
    const data = bytes('y');
    const replace = { path, name: 'user.none', data, flags: 'XATTR_REPLACE' } as const;
    t.is(await client.errno.setxattr(replace), 'ENODATA', 'nothing to replace');
    const create = { path, name: 'user.more', data, flags: 'XATTR_CREATE' } as const;
    t.is(await client.errno.setxattr(create), 'EEXIST', 'nothing to create');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    t.true((await client.fstat({ fd })).ctimeNs > before.ctimeNs, 'and changes the ctime');
    await client.close({ fd });
    const names = ['trusted.word', 'user.more', 'user.word'];
    t.deepEqual((await client.listxattr({ path })).toSorted(), names, 'what root sees');
    await using stranger = await guest.client();
    await stranger.chdir({ path: overlay.path });
    await stranger.setCredentials({ uid: 4000, gid: 4000 });
    t.deepEqual((await stranger.listxattr({ path: 'f' })).toSorted(), names.slice(1), 'what a stranger sees');
    const acl = { path: 'f', name: 'system.posix_acl_access', data: new Uint8Array(ACL) };
    t.is(await stranger.errno.setxattr(acl), 'EPERM', 'a list is the owner’s to set');
  },
);

guestTest(
  'metadata alone is copied up with metacopy=on, and the data are found below, mounted again too (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const data = 'x'.repeat(100_000);
    await using stack = await overlayed(
      guest,
      client,
      async (lower) => {
        await client.mkdir({ path: `${lower}/d` });
        await client.writeFile({ path: `${lower}/d/f`, data });
        const fd = await client.open({ path: `${lower}/d/f`, flags: 'O_RDWR' });
        await client.fsync({ fd });
        await client.close({ fd });
        await client.utimens({ path: `${lower}/d/f`, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
      },
      'metacopy=on,redirect_dir=on',
    );
    const { blocks } = await client.stat({ path: `${stack.lower}/d/f` });
    await client.chown({ path: stack.fuse.file('d/f'), uid: 1500, gid: 1600 });
    await client.rename({ from: stack.fuse.file('d/f'), to: stack.fuse.file('moved') });
    const check = async (overlay: typeof stack.overlay, when: string): Promise<void> => {
      t.true(text(await client.readFile({ path: overlay.file('moved') })) === data, `${when}: the data`);
      const stat = await client.stat({ path: overlay.file('moved') });
      const { uid, gid, mtimeNs, size } = stat;
      t.deepEqual(
        { uid, gid, mtimeNs, size },
        { uid: 1500, gid: 1600, mtimeNs: LONG_AGO_NS, size: data.length },
        when,
      );
      t.is(stat.blocks, blocks, `${when}: the space that the data take`);
    };
    // Not through FUSE: its server would open the file for writing, too.
    await check(stack.overlay, 'at once');
    t.not(text(await client.readFile({ path: `${stack.upper}/moved` })), data, 'the upper file has no data');
    const { fuse, overlay } = await stack.again();
    await check(overlay, 'mounted again');
    await client.rename({ from: fuse.file('d'), to: fuse.file('e') });
    t.deepEqual(
      await client.readdir({ path: fuse.path }),
      ['e', 'moved'],
      'directories of the lower layer can be moved',
    );
  },
);

guestTest.alone(
  'an overlay says what it is, syncs its upper layer, and refuses a work directory in it',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayed(guest, client, (lower) =>
      client.writeFile({ path: `${lower}/f`, data: 'below' }),
    );
    t.is((await client.statfs({ path: stack.overlay.path })).type, OVERLAYFS_MAGIC);
    const { lower } = stack;
    const upper = await guest.directory('ext4', 'outer');
    await client.mkdir({ path: `${upper}/inner` });
    const refused = (upperdir: string, workdir: string): Promise<string> =>
      guest.mountErrno(
        {
          source: 'overlay',
          type: 'overlay',
          options: `lowerdir=${lower},upperdir=${upperdir},workdir=${workdir}`,
        },
        client,
      );
    t.is(await refused(upper, `${upper}/inner`), 'EINVAL', 'the work directory in the upper one');
    t.is(await refused(`${upper}/inner`, upper), 'EINVAL', 'the upper directory in the work one');

    // The upper layer is a FUSE filesystem whose server says what it is asked.
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    for (const name of ['u', 'w']) await client.mkdir({ path: fuse.backing(name) });
    await using over = await guest.mountOverlay(
      { lower, upper: fuse.file('u'), work: fuse.file('w') },
      client,
    );
    const fd = await client.open({ path: over.file('f'), flags: 'O_RDWR' });
    await client.pwrite({ fd, data: bytes('written'), offset: 0 });
    const after = await fuse.position();
    await client.syncfs({ fd });
    t.deepEqual(
      await fuse.opcodes({ opcode: 'SYNCFS', after }),
      [],
      'FUSE passes syncfs to no server that is not trusted',
    );
    await client.close({ fd });
  },
);

guestTest(
  'a directory of an overlay that stays open shows the names of now when it is read again',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayed(guest, client, async (lower) => {
      await client.mkdir({ path: `${lower}/d` });
      for (const name of ['a', 'b']) await client.writeFile({ path: `${lower}/d/${name}`, data: 'below' });
    });
    const at = (name: string): string => stack.overlay.file(`d/${name}`);
    await client.writeFile({ path: at('c'), data: 'above' });
    const fd = await client.open({ path: stack.overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    t.deepEqual(await client.readdirFd({ fd }), ['a', 'b', 'c']);
    t.is(
      (await client.stat({ path: stack.overlay.file('d') })).nlink,
      1,
      'a merged directory counts no links',
    );
    const changes: Readonly<Record<string, readonly [() => Promise<unknown>, string[]]>> = {
      'a new file': [() => client.writeFile({ path: at('d'), data: 'new' }), ['a', 'b', 'c', 'd']],
      'a lower file removed': [() => client.unlink({ path: at('a') }), ['b', 'c', 'd']],
      'an upper file removed': [() => client.unlink({ path: at('c') }), ['b', 'd']],
      'a lower file renamed': [() => client.rename({ from: at('b'), to: at('e') }), ['d', 'e']],
      'made where one was removed': [() => client.mkdir({ path: at('a') }), ['a', 'd', 'e']],
      'a new link': [() => client.link({ from: at('d'), to: at('f') }), ['a', 'd', 'e', 'f']],
    };
    for (const [what, [change, expected]] of Object.entries(changes)) {
      await change();
      // First who opens it meanwhile: what the other open has read must not do for both.
      t.deepEqual(await client.readdir({ path: stack.overlay.file('d') }), expected, `${what}: opened anew`);
      t.deepEqual(await client.readdirFd({ fd }), expected, what);
    }
    await client.close({ fd });
  },
);

guestTest('with index=on links are counted over the layers (E17)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayed(
    guest,
    client,
    async (lower) => {
      await client.writeFile({ path: `${lower}/a`, data: 'below' });
      for (const name of ['b', 'c']) await client.link({ from: `${lower}/a`, to: `${lower}/${name}` });
    },
    'index=on',
  );
  const at = (name: string): string => stack.overlay.file(name);
  const fd = await client.open({ path: at('a'), flags: 'O_RDWR' });
  const links = async (): Promise<number> => (await client.fstat({ fd })).nlink;
  t.is(await links(), 3, 'copied up: its names below are names of it');
  await client.link({ from: at('a'), to: at('d') });
  t.is(await links(), 4, 'a new one');
  await client.unlink({ path: at('b') });
  t.is(await links(), 3, 'one of below removed');
  await client.writeFile({ path: at('other'), data: 'other' });
  await client.rename({ from: at('other'), to: at('c') });
  t.is(await links(), 2, 'one replaced');
  for (const name of ['a', 'd']) await client.unlink({ path: at(name) });
  t.is(await links(), 0);
  await client.pwrite({ fd, data: 'still', offset: 0 });
  t.is(text(await client.pread({ fd, count: 9, offset: 0 })), 'still', 'open, it lives on');
  await client.close({ fd });
});

guestTest('a name that three layers have is listed once, and the uppermost counts', async (t, guest) => {
  await using client = await guest.client();
  const lower = [await guest.directory('ext4', 'middle'), await guest.directory('ext4', 'lowest')];
  const layers = await upperOn(guest);
  const [middle = '', lowest = ''] = lower;
  const all = [layers.upper, middle, lowest];
  for (const [at, path] of all.entries()) {
    await client.mkdir({ path: `${path}/d` });
    await client.writeFile({ path: `${path}/d/of-all`, data: String(at) });
    if (at > 0) await client.writeFile({ path: `${path}/d/of-two`, data: String(at) });
    await client.writeFile({ path: `${path}/d/only-${at}`, data: String(at) });
  }
  await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
  await using fuse = await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } });
  for (const top of [overlay, fuse]) {
    const names = ['of-all', 'of-two', 'only-0', 'only-1', 'only-2'];
    t.deepEqual(await client.readdir({ path: top.file('d') }), names);
    t.is(text(await client.readFile({ path: top.file('d/of-all') })), '0');
    t.is(text(await client.readFile({ path: top.file('d/of-two') })), '1');
  }
  await client.unlink({ path: fuse.file('d/of-all') });
  t.deepEqual(
    await client.readdir({ path: overlay.file('d') }),
    ['of-two', 'only-0', 'only-1', 'only-2'],
    'one whiteout hides all',
  );
});
