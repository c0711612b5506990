import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { ENTRY, u64 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What a call on ecryptfs says when the server of the lower directory refuses what it is asked for. */

/** No filesystem makes anything else of it. */
const REFUSED = 'EDQUOT';
const FIFO = 0o010_600;

interface Call {
  readonly opcode: OpcodeName | readonly OpcodeName[];
  /** The errno of the call, in a directory with the file `f`, the link `s` and the empty directory `d`. */
  readonly call: (client: Client, at: string) => Promise<string>;
}

/** In this order: what each leaves when it is not refused, the next one finds. */
const CALLS: Readonly<Record<string, Call>> = {
  'making a file': { opcode: 'MKNOD', call: (client, at) => client.errno.creat({ path: `${at}/made` }) },
  'making a directory': {
    opcode: 'MKDIR',
    call: (client, at) => client.errno.mkdir({ path: `${at}/made-d` }),
  },
  'making a pipe': {
    opcode: 'MKNOD',
    call: (client, at) => client.errno.mknod({ path: `${at}/made-p`, mode: FIFO }),
  },
  'making a symlink': {
    opcode: 'SYMLINK',
    call: (client, at) => client.errno.symlink({ target: 'f', path: `${at}/made-s` }),
  },
  'making a link': {
    opcode: 'LINK',
    call: (client, at) => client.errno.link({ from: `${at}/f`, to: `${at}/made-l` }),
  },
  'a rename': {
    opcode: 'RENAME',
    call: (client, at) => client.errno.rename({ from: `${at}/made-l`, to: `${at}/moved` }),
  },
  'removing a file': { opcode: 'UNLINK', call: (client, at) => client.errno.unlink({ path: `${at}/moved` }) },
  'removing a directory': { opcode: 'RMDIR', call: (client, at) => client.errno.rmdir({ path: `${at}/d` }) },
  'a change of mode': {
    opcode: 'SETATTR',
    call: (client, at) => client.errno.chmod({ path: `${at}/f`, mode: 0o604 }),
  },
  'a stat': { opcode: 'GETATTR', call: (client, at) => client.errno.stat({ path: `${at}/f` }) },
  'reading a link': { opcode: 'READLINK', call: (client, at) => client.errno.readlink({ path: `${at}/s` }) },
  'opening a directory': {
    opcode: 'OPENDIR',
    call: (client, at) => client.errno.open({ path: at, flags: 'O_RDONLY|O_DIRECTORY' }),
  },
  'reading a directory': {
    opcode: ['READDIR', 'READDIRPLUS'],
    call: (client, at) => client.errno.readdir({ path: at }),
  },
  'setting an attribute': {
    opcode: 'SETXATTR',
    call: (client, at) => client.errno.setxattr({ path: `${at}/f`, name: 'user.word', data: bytes('value') }),
  },
  'reading an attribute': {
    opcode: 'GETXATTR',
    call: (client, at) => client.errno.getxattr({ path: `${at}/f`, name: 'user.word' }),
  },
  'listing attributes': {
    opcode: 'LISTXATTR',
    call: (client, at) => client.errno.listxattr({ path: `${at}/f` }),
  },
  'removing an attribute': {
    opcode: 'REMOVEXATTR',
    call: (client, at) => client.errno.removexattr({ path: `${at}/f`, name: 'user.word' }),
  },
};

/** Below, once every call has been made. */
const LEFT = ['f', 'made', 'made-d', 'made-p', 'made-s', 's'];

guestTest('what the lower server refuses is refused on ecryptfs, and leaves nothing', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  await client.symlink({ target: 'f', path: ecryptfs.file('s') });
  await client.mkdir({ path: ecryptfs.file('d') });
  for (const [what, { opcode, call }] of Object.entries(CALLS)) {
    const before = await client.readdir({ path: fuse.root });
    const allow = await fuse.fail({ opcode }, REFUSED);
    t.is(await call(client, ecryptfs.path), REFUSED, `${what}, refused`);
    t.deepEqual(await client.readdir({ path: fuse.root }), before, `${what}, refused: names below`);
    await allow();
    t.is(await call(client, ecryptfs.path), 'ok', what);
  }
  t.deepEqual(await client.readdir({ path: fuse.root }), LEFT, 'names below');
  t.deepEqual(await client.readdir({ path: ecryptfs.path }), LEFT, 'names on ecryptfs');
  t.is(text(await client.readFile({ path: ecryptfs.file('f') })), 'contents');
});

/** What is asked for once the lower file is made, by whether its header is in itself or in an attribute. */
const AFTER_MAKING: Readonly<
  Record<string, { readonly opcode: OpcodeName; readonly errno: string; readonly more: readonly string[] }>
> = {
  'its opening': { opcode: 'OPEN', errno: 'EACCES', more: [] },
  'its header': { opcode: 'WRITE', errno: REFUSED, more: [] },
  'its header as an attribute': { opcode: 'SETXATTR', errno: REFUSED, more: ['ecryptfs_xattr_metadata'] },
};

for (const [what, { opcode, errno, more }] of Object.entries(AFTER_MAKING)) {
  guestTest(`a file on ecryptfs of which the lower server refuses ${what} is not made`, async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client, { more });
    const { ecryptfs, fuse } = stack;
    const allow = await fuse.fail(opcode, errno);
    t.is(await client.errno.creat({ path: ecryptfs.file('f') }), errno);
    t.deepEqual(await client.readdir({ path: fuse.root }), [], 'the lower file is removed');
    await allow();
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    t.is(text(await client.readFile({ path: ecryptfs.file('f') })), 'contents', 'when it is not refused');
  });
}

guestTest(
  'an empty lower file that cannot get its header is not opened, and is when it can',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: fuse.backing('f'), data: '' });
    const open = { path: ecryptfs.file('f'), flags: 'O_RDWR' };
    const allow = await fuse.fail('WRITE', REFUSED);
    t.is(await client.errno.open(open), 'EIO');
    t.is((await client.stat({ path: fuse.backing('f') })).size, 0, 'it is empty still');
    await allow();
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
    await client.writeFile({ path: again.file('f'), data: 'contents', flags: 'O_WRONLY' });
    t.is(text(await client.readFile({ path: again.file('f') })), 'contents');
  },
);

guestTest(
  'with ecryptfs_xattr_metadata an empty lower file is not made into one of ecryptfs',
  async (t, guest) => {
    await using client = await guest.client();
    const more = ['ecryptfs_xattr_metadata'];
    await using stack = await ecryptfsOnFuse(guest, client, { more });
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: fuse.backing('f'), data: '' });
    t.is(await client.errno.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' }), 'EIO');
    t.deepEqual(await client.listxattr({ path: fuse.backing('f') }), []);
    t.is((await client.stat({ path: fuse.backing('f') })).size, 0);
  },
);

guestTest(
  'a lower file that can be read only and is not opened for a user is not opened by anybody else',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    const path = ecryptfs.file('f');
    await client.writeFile({ path, data: 'contents' });
    const remount = { source: 'fuse', target: fuse.path, type: 'fuse' } as const;
    await client.mount({ ...remount, flags: 'MS_REMOUNT|MS_RDONLY' });
    const allow = await fuse.fail('OPEN', 'EACCES');
    const after = await fuse.position();
    t.is(await client.errno.open({ path, flags: 'O_RDONLY' }), 'EACCES');
    t.is((await fuse.requests({ opcode: 'OPEN', after })).length, 1, 'asked once');
    await allow();
    t.is(text(await client.readFile({ path })), 'contents', 'when it is opened');
    await client.mount({ ...remount, flags: 'MS_REMOUNT' });
  },
);

guestTest(
  'attributes are changed by who may on ecryptfs, also where the lower server asks nobody',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client, { allowOther: true });
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents', mode: 0o600 });
    await using user = await guest.client();
    await user.chdir({ path: ecryptfs.path });
    await user.setCredentials({ uid: 1500, gid: 1500 });
    const after = await fuse.position();
    t.is(await user.errno.chmod({ path: 'f', mode: 0o666 }), 'EPERM');
    t.is(await user.errno.chown({ path: 'f', uid: 1500, gid: 1500 }), 'EPERM');
    t.deepEqual(await fuse.requests({ opcode: 'SETATTR', after }), [], 'the server is not asked');
    t.is(await client.errno.chmod({ path: ecryptfs.file('f'), mode: 0o666 }), 'ok', 'its owner');
    t.is((await client.stat({ path: fuse.backing('f') })).mode & 0o777, 0o666);
  },
);

guestTest(
  'a directory for which the lower server names one that it has already is looked up anew',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    await client.mkdir({ path: ecryptfs.file('d') });
    const bytes = u64(BigInt(await fuse.nodeid('/d')));
    const action = { do: 'patch', at: ENTRY.nodeid, bytes } as const;
    await fuse.rule({ match: { opcode: 'MKDIR' }, times: 1, action });
    t.is(await client.errno.mkdir({ path: ecryptfs.file('made') }), 'ok');
    for (const name of ['made', 'd']) {
      t.is(await client.errno.mkdir({ path: ecryptfs.file(`${name}/in-${name}`) }), 'ok', name);
      t.deepEqual(await client.readdir({ path: fuse.backing(name) }), [`in-${name}`], `${name}, below`);
    }
  },
);
