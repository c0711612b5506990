import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** Rights and privileges that the server has to be asked about first, and what its refusal does. */

const STRANGER = { uid: 4000, gid: 4000 };
const HOUR_S = 3600;
const [STATX_SIZE, STATX_MNT_ID] = [0x200, 0x1000];
const PARAMETER = '/sys/module/fuse/parameters/allow_sys_admin_access';
const WITHOUT_SYS_ADMIN = ['setpriv', '--bounding-set', '-sys_admin'];
/** As a group of the first one that has not mounted anything. */
const USER_NAMESPACE = [
  ...['setpriv', '--regid=4000', '--clear-groups'],
  ...['unshare', '--user', '--map-root-user'],
];
const OTHER_GROUP = { uid: 0, gid: 4000 };

interface Changed {
  readonly client: Client;
  readonly fd: number;
  readonly other: number;
}

/** Calls that take setuid bits away before they do their work, with the requests for that work. */
const CHANGES: Readonly<Record<string, readonly [(how: Changed) => Promise<string>, readonly OpcodeName[]]>> =
  {
    write: [({ client, fd }) => client.errno.pwrite({ fd, data: 'new', offset: 0 }), ['WRITE']],
    fallocate: [({ client, fd }) => client.errno.fallocate({ fd, offset: 0, length: 4096 }), ['FALLOCATE']],
    copy_file_range: [
      ({ client, fd, other }) =>
        client.errno.copy_file_range({ fdIn: other, offIn: 0, fdOut: fd, offOut: 0, length: 4 }),
      ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'],
    ],
  };

/** A setuid program that a stranger has open for writing. */
async function program(fuse: FuseMount, client: Client): Promise<Changed> {
  for (const name of ['f', 'other']) await client.writeFile({ path: fuse.backing(name), data: 'program' });
  await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const other = await client.open({ path: fuse.file('other'), flags: 'O_RDONLY' });
  await client.setCredentials(STRANGER);
  return { client, fd, other };
}

for (const opcode of ['SETATTR', 'GETATTR'] as const) {
  guestTest(
    `where the server refuses ${opcode} for the setuid bit a stranger changes nothing of the file (A42)`,
    async (t, guest) => {
      for (const [what, [call, asks]] of Object.entries(CHANGES)) {
        await using fuse = await guest.mountFuse({ passthrough: 'off', allowOther: true });
        await using client = await guest.client();
        const how = await program(fuse, client);
        const after = await fuse.position();
        const takeBack = await fuse.fail({ opcode, path: '/f' }, 'EPERM');
        t.is(await call(how), 'EPERM', what);
        t.deepEqual(await fuse.opcodes({ opcode: asks, after }), [], `${what}: it is not asked for`);
        if (opcode === 'GETATTR') t.deepEqual(await fuse.opcodes({ opcode: 'SETATTR', after }), [], what);
        await takeBack();
        t.is(await call(how), 'ok', `${what}: the next time`);
        t.is((await fuse.opcodes({ opcode: asks, after })).length > 0, true, `${what}: it is asked for then`);
        t.is((await client.fstat({ fd: how.fd })).mode & 0o7777, 0o755, `${what}: without setuid`);
      }
    },
  );
}

guestTest(
  'a stranger’s write waits in the cache where the server clears setuid bits and there is none (A42)',
  async (t, guest) => {
    const init = { addFlags: ['WRITEBACK_CACHE', 'HANDLE_KILLPRIV_V2'] } as const;
    await using fuse = await mountWritebackCache(guest, { allowOther: true, init });
    await using client = await guest.client();
    for (const [mode, waits] of [
      [0o755, true],
      [0o2755, false],
      [0o4644, false],
    ] as const) {
      const name = mode.toString(8);
      await client.writeFile({ path: fuse.backing(name), data: 'program' });
      await client.chmod({ path: fuse.backing(name), mode });
      await using stranger = await guest.client();
      const fd = await stranger.open({ path: fuse.file(name), flags: 'O_RDWR' });
      await stranger.setCredentials(STRANGER);
      const after = await fuse.position();
      await stranger.pwrite({ fd, data: 'new', offset: 0 });
      t.is((await fuse.opcodes({ opcode: 'WRITE', after })).length, waits ? 0 : 1, name);
      await stranger.close({ fd });
    }
  },
);

async function strangersFile(
  guest: TestGuest,
  options: FuseOptions,
  mode: number,
): Promise<{ fuse: FuseMount; client: Client }> {
  const fuse = await guest.mountFuse({
    attrValidS: HOUR_S,
    entryValidS: HOUR_S,
    allowOther: true,
    ...options,
  });
  const client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents', mode });
  await client.chdir({ path: fuse.path });
  await client.stat({ path: 'f' });
  await client.setCredentials(STRANGER);
  await client.stat({ path: 'f' });
  return { fuse, client };
}

guestTest('who is refused by attributes that count gets the error for newer ones (F4)', async (t, guest) => {
  const { fuse, client } = await strangersFile(guest, { defaultPermissions: true }, 0o600);
  await using _fuse = fuse;
  await using _client = client;
  const open = { path: 'f', flags: 'O_RDONLY' };
  const after = await fuse.position();
  const takeBack = await fuse.fail('GETATTR', 'ENXIO');
  t.is(await client.errno.open(open), 'ENXIO', 'the server does not tell');
  await takeBack();
  t.is(await client.errno.open(open), 'EACCES', 'it tells the same');
  await using root = await guest.client();
  await root.chmod({ path: fuse.backing('f'), mode: 0o604 });
  t.is(await client.errno.open(open), 'ok', 'it tells another mode');
  t.is((await fuse.requests({ opcode: 'OPEN', after })).length, 1, 'the server is asked to open it once');
});

/** What a program says, or why it is not one. */
async function runs(guest: TestGuest, program: string): Promise<string> {
  const { stdout, stderr } = await guest.tryRun(['env', program]);
  return `${stdout}${stderr}`;
}

guestTest(
  'what may be executed by attributes that count no more is not executed by newer ones (F4)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: 0, entryValidS: HOUR_S });
    await using client = await guest.client();
    const program = fuse.file('program');
    await client.writeFile({ path: fuse.backing('program'), data: '#!/bin/sh\necho it runs\n', mode: 0o755 });
    t.is(await runs(guest, program), 'it runs\n');
    await client.chmod({ path: fuse.backing('program'), mode: 0o644 });
    const after = await fuse.position();
    t.regex(await runs(guest, program), /Permission denied/);
    const asked = await fuse.opcodes({ opcode: ['LOOKUP', 'OPEN', 'GETATTR'], path: '/program', after });
    t.deepEqual(asked, ['GETATTR'], 'it tells, and is asked once');
  },
);

guestTest(
  'what nobody may execute by attributes that count is executed by newer ones (F4)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: HOUR_S, entryValidS: HOUR_S });
    await using client = await guest.client();
    const program = fuse.file('program');
    await client.writeFile({ path: fuse.backing('program'), data: '#!/bin/sh\necho it runs\n', mode: 0o644 });
    await client.stat({ path: program });
    const run = () => runs(guest, program);
    const after = await fuse.position();
    const takeBack = await fuse.fail('GETATTR', 'ENXIO');
    t.regex(await run(), /No such device or address/, 'the server does not tell');
    t.true((await fuse.requests({ opcode: 'GETATTR', after })).length > 0, 'it is asked');
    await takeBack();
    t.regex(await run(), /Permission denied/, 'it tells the same');
    await client.chmod({ path: fuse.backing('program'), mode: 0o755 });
    t.is(await run(), 'it runs\n', 'it tells another mode');
  },
);

guestTest(
  'who asks for nothing of a file is told which filesystem has it, and nobody is asked',
  async (t, guest) => {
    // Came with FUSE_STATX.
    guest.needs(guest.expected.asksTimeOfBirth, 'end to asking the server on behalf of who asks for nothing');
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.chdir({ path: fuse.path });
    const { devMajor, devMinor } = await client.stat({ path: '.' });
    const after = await fuse.position();
    // The number of the mount is no business of the server’s either.
    for (const mask of [0, STATX_MNT_ID]) {
      t.like(await client.stat({ path: '.', mask }), { devMajor, devMinor }, `mask ${mask}`);
    }
    t.deepEqual(await fuse.opcodes({ opcode: ['GETATTR', 'STATX'], after }), []);
    await client.stat({ path: '.', mask: STATX_SIZE });
    t.deepEqual(
      await fuse.opcodes({ opcode: ['GETATTR', 'STATX'], after }),
      ['GETATTR'],
      'who asks for the size',
    );
  },
);

guestTest(
  'who may administrate the system is let on a mount of somebody else where a parameter says so (F4)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: false });
    await using root = await guest.client();
    await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const set = async (value: string): Promise<void> => {
      await root.writeFile({ path: PARAMETER, data: value, flags: 'O_WRONLY' });
    };
    await using administrator = await guest.client();
    await using limited = await guest.client({ launcher: WITHOUT_SYS_ADMIN });
    // Who may do everything in a user namespace that anybody may have.
    await using elsewhere = await guest.client({ launcher: USER_NAMESPACE });
    // Not the group that has mounted it: that is enough to be somebody else.
    for (const client of [administrator, limited]) await client.setCredentials(OTHER_GROUP);
    const look = (client: Client): Promise<string> => client.errno.stat({ path: fuse.file('f') });
    t.is(await look(root), 'ok', 'who has mounted it');
    t.is(await look(administrator), 'EACCES', 'an administrator');
    try {
      await set('1');
      t.is(await look(administrator), 'ok', 'an administrator, and the parameter is on');
      t.is(await look(limited), 'EACCES', 'somebody else, all the same');
      t.is(await look(elsewhere), 'EACCES', 'an administrator of another user namespace');
    } finally {
      await set('0');
    }
    t.is(await look(administrator), 'EACCES', 'and off again');
  },
);
