import { aclFor } from '../lib/access-control-list.ts';
import { bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { OpcodeName, Rule } from '../lib/fuse-abi.ts';
import { u64 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';

const STRANGER = 1000;

guestTest('extended attributes go to the server while data goes past it (A45)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const model = pattern(5000);
  await client.writeFile({ path: fuse.backing('f'), data: model });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const [path, backing] = [fuse.file('f'), fuse.backing('f')];
  for (const round of [1, 2, 3]) {
    const name = `trusted.round${round}`;
    await client.setxattr({ path, name, data: `value ${round}` });
    t.is(text(await client.getxattr({ path: backing, name })), `value ${round}`, 'below');
    const part = pattern(100, round + 1);
    await client.pwrite({ fd, data: part, offset: round * 1000 });
    model.set(part, round * 1000);
    t.is(text(await client.getxattr({ path, name })), `value ${round}`, 'after a write');
    const back = await client.pread({ fd, count: 6000, offset: 0 });
    t.is(firstDifference(back, model), undefined, `round ${round}`);
  }
  t.is(
    await client.errno.setxattr({ path, name: 'trusted.round1', data: 'x', flags: 'XATTR_CREATE' }),
    'EEXIST',
  );
  await client.removexattr({ path: backing, name: 'trusted.round1' });
  t.is(
    await client.errno.getxattr({ path, name: 'trusted.round1' }),
    'ENODATA',
    'nothing is kept in between',
  );
  t.deepEqual((await client.listxattr({ path })).sort(), ['trusted.round2', 'trusted.round3']);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'the time of change is asked for again after an attribute was set or removed, and not after a refusal (A40, A45)',
  async (t, guest) => {
    const LONG = 100_000;
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const path = fuse.file('f');
    const name = 'trusted.n';
    await client.stat({ path });
    for (const [opcode, call] of [
      ['SETXATTR', () => client.errno.setxattr({ path, name, data: 'value' })],
      ['REMOVEXATTR', () => client.errno.removexattr({ path, name })],
    ] as const) {
      await fuse.fail(opcode, 'EDQUOT', 1);
      for (const [errno, asked] of [
        ['EDQUOT', []],
        ['ok', ['GETATTR']],
      ] as const) {
        t.is(await call(), errno, opcode);
        const after = await fuse.position();
        await client.stat({ path });
        const sent = await fuse.opcodes({ opcode: 'GETATTR', after });
        t.deepEqual(sent, [...asked], `after ${opcode}: ${errno}`);
      }
    }
  },
);

guestTest('an access control list decides on opens, and not on what is open (A45, F4)', async (t, guest) => {
  const init = { addFlags: ['POSIX_ACL'] as const };
  await using fuse = await guest.mountFuse({ init, defaultPermissions: true });
  await using root = await guest.client();
  await using stranger = await guest.client();
  await root.writeFile({ path: fuse.backing('f'), data: 'backing', mode: 0o600 });
  const dirfd = await stranger.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
  await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
  const file = { dirfd, path: 'f' };
  const acl = { path: fuse.file('f'), name: 'system.posix_acl_access' };
  t.is(await stranger.errno.open({ ...file, flags: 'O_RDONLY' }), 'EACCES', 'without an entry');

  await root.setxattr({ ...acl, data: aclFor([STRANGER], 6) });
  const fd = await stranger.open({ ...file, flags: 'O_RDWR' });
  t.is(await stranger.pwrite({ fd, data: 'written', offset: 0 }), 7);
  await root.setxattr({ ...acl, data: aclFor([STRANGER], 4) });
  t.is(await stranger.errno.open({ ...file, flags: 'O_RDWR' }), 'EACCES', 'an entry to read');
  const reader = await stranger.open({ ...file, flags: 'O_RDONLY' });
  t.is(text(await stranger.pread({ fd: reader, count: 7, offset: 0 })), 'written');
  await root.removexattr(acl);
  t.is(await stranger.errno.open({ ...file, flags: 'O_RDONLY' }), 'EACCES', 'no entry any more');
  t.is(await stranger.pwrite({ fd, data: 'again!!', offset: 0 }), 7, 'what is open stays open');
  t.is(text(await stranger.pread({ fd: reader, count: 7, offset: 0 })), 'again!!');
  for (const one of [fd, reader]) await stranger.close({ fd: one });
  t.deepEqual(await fuse.dataRequests(), []);
  t.is(text(await root.readFile({ path: fuse.backing('f') })), 'again!!');
});

/** What is sent about extended attributes, and by which calls. */
const REQUESTS: Readonly<
  Partial<Record<OpcodeName, (client: Client, path: string, name: string) => Promise<string>>>
> = {
  SETXATTR: (client, path, name) => client.errno.setxattr({ path, name, data: 'value' }),
  GETXATTR: (client, path, name) => client.errno.getxattr({ path, name }),
  LISTXATTR: (client, path) => client.errno.listxattr({ path }),
  REMOVEXATTR: (client, path, name) => client.errno.removexattr({ path, name }),
};

guestTest(
  'what a server does not know of extended attributes is not supported, and it is asked once (A45)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    for (const [opcode, call] of Object.entries(REQUESTS)) {
      const match = { opcode: opcode as OpcodeName };
      await fuse.fail(match, 'ENOSYS');
      const outcomes = [];
      for (const name of ['trusted.one', 'trusted.one', 'trusted.other']) {
        outcomes.push(await call(client, fuse.file('f'), name));
      }
      t.deepEqual(outcomes, ['EOPNOTSUPP', 'EOPNOTSUPP', 'EOPNOTSUPP'], opcode);
      t.is((await fuse.requests(match)).length, 1, `${opcode} is not asked again, of another one neither`);
    }
  },
);

/** Answers to LISTXATTR, and the names that the caller gets. */
const LISTS: Readonly<Record<string, readonly string[] | 'EIO'>> = {
  'user.one\0user.other\0': ['user.one', 'user.other'],
  'user.one\0user.other': 'EIO',
  'user.one\0\0': 'EIO',
  '\0user.one\0': 'EIO',
  '': [],
};

guestTest('names that a server lists end with a NUL each and are not empty (A45)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const path = fuse.file('f');
  for (const [list, outcome] of Object.entries(LISTS)) {
    await fuse.rule({ match: { opcode: 'LISTXATTR' }, action: { do: 'body', body: bytes(list) } });
    const got = outcome === 'EIO' ? await client.errno.listxattr({ path }) : await client.listxattr({ path });
    t.deepEqual(got, outcome, JSON.stringify(list));
  }
});

guestTest('who has no business on the mount lists no extended attributes (A45)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ allowOther: false });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  // Of an open file no directory above is asked.
  const path = `/proc/self/fd/${fd}`;
  t.is(await client.errno.listxattr({ path }), 'ok', 'who has mounted it');
  await client.setCredentials({ uid: STRANGER, gid: STRANGER });
  const after = await fuse.position();
  t.is(await client.errno.listxattr({ path }), 'EACCES', 'a stranger');
  t.deepEqual(await fuse.opcodes({ opcode: 'LISTXATTR', after }), []);
  await client.close({ fd });
});

/** What the server says of the access control list of a file that everybody may read, and what an open gives. */
const ACCESS_LISTS: readonly (readonly [string, Rule['action'], string])[] = [
  ['a list without a right', { do: 'body', body: aclFor([STRANGER], 0) }, 'EACCES'],
  ['ENODATA', { do: 'error', errno: 'ENODATA' }, 'ok'],
  ['nothing', { do: 'body', body: new Uint8Array() }, 'ok'],
  ['ERANGE', { do: 'error', errno: 'ERANGE' }, 'E2BIG'],
  ['EIO', { do: 'error', errno: 'EIO' }, 'EIO'],
  ['EOPNOTSUPP', { do: 'error', errno: 'EOPNOTSUPP' }, 'EOPNOTSUPP'],
  ['a list that ends early', { do: 'body', body: aclFor([STRANGER], 4).subarray(0, -3) }, 'EINVAL'],
  // Never asked again from here on.
  ['ENOSYS', { do: 'error', errno: 'ENOSYS' }, 'ok'],
];

guestTest(
  'an open heeds the access control list that the server tells, and its error for it (A45, F4)',
  async (t, guest) => {
    const init = { addFlags: ['POSIX_ACL'] } as const;
    await using fuse = await guest.mountFuse({ init, defaultPermissions: true });
    await using root = await guest.client();
    await using stranger = await guest.client();
    await root.chmod({ path: fuse.root, mode: 0o755 });
    const dirfd = await stranger.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
    for (const [at, [what, action, errno]] of ACCESS_LISTS.entries()) {
      // A list is remembered: each file has its own.
      const name = `f${at}`;
      await root.writeFile({ path: fuse.backing(name), data: 'backing', mode: 0o644 });
      await fuse.rule({ match: { opcode: 'GETXATTR', path: `/${name}` }, action });
      const file = { dirfd, path: name, flags: 'O_RDONLY' };
      t.is(await stranger.errno.open(file), errno, `the server says ${what}`);
      const [request] = await fuse.requests({ opcode: 'GETXATTR', path: `/${name}` });
      t.is(request?.args['name'], 'system.posix_acl_access', `asked for before the server says ${what}`);
    }
    const last = 'none';
    await root.writeFile({ path: fuse.backing(last), data: 'backing', mode: 0o644 });
    t.is(await stranger.errno.open({ dirfd, path: last, flags: 'O_RDONLY' }), 'ok', 'a server without lists');
    t.deepEqual(await fuse.requests({ opcode: 'GETXATTR', path: `/${last}` }), [], 'is not asked again');
  },
);

guestTest('an access control list of more than a page is not sent (A45)', async (t, guest) => {
  const init = { addFlags: ['POSIX_ACL'] } as const;
  await using fuse = await guest.mountFuse({ init, defaultPermissions: true });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  await fuse.rule({ match: { opcode: 'SETXATTR' }, action: { do: 'body', body: new Uint8Array() } });
  // Header, four entries that there always are, and these: 4096 bytes are 4 and 511 entries.
  const users = Array.from({ length: 508 }, (_each, at) => 1000 + at);
  const acl = (data: Uint8Array) => ({ path: fuse.file('f'), name: 'system.posix_acl_access', data });
  t.is(
    await client.errno.setxattr(acl(aclFor(users, 6))),
    'E2BIG',
    'one entry more than a page has room for',
  );
  t.deepEqual(await fuse.requests('SETXATTR'), []);
  t.is(await client.errno.setxattr(acl(aclFor(users.slice(1), 6))), 'ok', 'as many as there is room for');
  t.is((await fuse.requests('SETXATTR')).length, 1);
});

guestTest('an extended attribute that is set to nothing is there, and empty (A45)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const empty = { path: fuse.file('f'), name: 'trusted.empty' };
  await client.setxattr({ ...empty, data: 'full' });
  await client.setxattr({ ...empty, data: '' });
  for (const path of [fuse.file('f'), fuse.backing('f')]) {
    t.deepEqual(await client.listxattr({ path }), ['trusted.empty'], path);
    t.is((await client.getxattr({ ...empty, path })).length, 0, path);
  }
  t.deepEqual(await fuse.opcodes('REMOVEXATTR'), []);
});

guestTest('with SETXATTR_EXT an extended attribute is set by the longer request (A45)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: { addFlags: ['SETXATTR_EXT'] } });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const name = 'trusted.word';
  await client.setxattr({ path: fuse.file('f'), name, data: 'value', flags: 'XATTR_CREATE' });
  const [request] = await fuse.requests('SETXATTR');
  t.like(request?.args, { name, size: 5, flags: 1, setxattr_flags: 0 });
  t.is(text(await client.getxattr({ path: fuse.backing('f'), name })), 'value');
});

/** listxattr(2), getxattr(2): no list and no value is longer. Bytes. */
const [LONGEST_LIST, LONGEST_VALUE] = [65_536, 65_536];

guestTest(
  'a list of names takes as much as the server says, and no more than a list may (A45)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    for (const said of [0, 10, LONGEST_LIST, LONGEST_LIST + 1, 2 ** 31]) {
      // `fuse_getxattr_out`: u32 size, u32 padding.
      const body = new Uint8Array(8);
      new DataView(body.buffer).setUint32(0, said, true);
      await fuse.rule({ match: { opcode: 'LISTXATTR' }, action: { do: 'body', body } });
      const told = await client.listxattrSize({ path: fuse.file('f') });
      t.is(told, Math.min(said, LONGEST_LIST), `the server says ${said}`);
    }
  },
);

guestTest(
  'an extended attribute takes as much as the server says, and no more than one may (A45)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    for (const said of [0, 10, LONGEST_VALUE, LONGEST_VALUE + 1, 2 ** 31]) {
      await fuse.rule({ match: { opcode: 'GETXATTR' }, action: { do: 'body', body: u64(BigInt(said)) } });
      const told = await client.getxattrSize({ path: fuse.file('f'), name: 'trusted.n' });
      t.is(told, Math.min(said, LONGEST_VALUE), `the server says ${said}`);
    }
  },
);

guestTest('a symbolic link has extended attributes of its own, and lists them (A45)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.symlink({ target: 'nowhere', path: fuse.backing('s') });
  const fd = await client.open({ path: fuse.file('s'), flags: 'O_PATH|O_NOFOLLOW' });
  const body = bytes('trusted.one\0');
  await fuse.rule({ match: { opcode: 'LISTXATTR', path: '/s' }, action: { do: 'body', body } });
  t.deepEqual(await client.listxattr({ path: `/proc/self/fd/${fd}` }), ['trusted.one']);
  await client.close({ fd });
});
