import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

/** `FATTR_MODE` of SETATTR's `valid`. */
const MODE = 1 << 0;
/** Of GETATTR’s `getattr_flags`. */
const GETATTR_FH = 1 << 0;
const STRANGER = 65_534;

guestTest('a stranger’s write asks the server to take the setuid bit away (A42)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ allowOther: true });
  await using client = await guest.client();
  await using stranger = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'program' });
  await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });

  // What counts is who writes, not who has opened.
  const fd = await stranger.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
  t.is(await stranger.pwrite({ fd, data: 'x', offset: 0 }), 1);
  const modes = (await fuse.requests('SETATTR'))
    .filter(({ args }) => Number(args['valid']) & MODE)
    .map(({ args }) => Number(args['mode']) & 0o7777);
  const { mode } = await client.stat({ path: fuse.backing('f') });
  if (guest.expected.removesPrivileges) {
    t.deepEqual(modes, [0o755]);
    t.is(mode & 0o7777, 0o755);
  } else {
    t.deepEqual(modes, []);
    t.is(mode & 0o7777, 0o4755);
  }
  await stranger.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('root’s write leaves the setuid bit (A42)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'program' });
  await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'x', offset: 0 });
  await client.close({ fd });
  t.is((await client.stat({ path: fuse.backing('f') })).mode & 0o7777, 0o4755);
  t.deepEqual(await fuse.dataRequests(), []);
});

/** What three writes in a row ask about `security.capability`, and what makes the kernel stop asking. */
const LOOKUPS = [
  { when: 'always', init: {}, refuse: false, times: 3 },
  {
    when: 'once where the server clears privileges',
    init: { addFlags: ['HANDLE_KILLPRIV_V2'] },
    refuse: false,
    times: 1,
  },
  { when: 'once where the server knows no attributes', init: {}, refuse: true, times: 1 },
] as const;

guestTest(
  'each write looks for file capabilities unless the server has made that needless (A42)',
  async (t, guest) => {
    for (const { when, init, refuse, times } of LOOKUPS) {
      await using fuse = await guest.mountFuse({ init, attrValidS: 3600 });
      await using client = await guest.client();
      if (refuse) await fuse.fail('GETXATTR', 'ENOSYS');
      await client.writeFile({ path: fuse.backing('f'), data: 'x' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
      for (let round = 0; round < 3; round++) await client.pwrite({ fd, data: 'x', offset: 0 });
      const asked = await fuse.requests('GETXATTR');
      t.is(asked.length, guest.expected.removesPrivileges ? times : 0, when);
      t.true(
        asked.every(({ args }) => args['name'] === 'security.capability'),
        when,
      );
      await client.close({ fd });
      t.deepEqual(await fuse.dataRequests(), []);
    }
  },
);

/** Ways to write that have each to look for bits to clear by themselves. */
const WRITES: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  write: (client, fd) => client.pwrite({ fd, data: 'x', offset: 0 }),
  'asynchronous write': (client, fd) =>
    client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(1), offset: 0 }] }),
  splice: async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: 'x' });
    await client.splice({ fdIn, fdOut: fd, offOut: 0, length: 1 });
    for (const each of [fdIn, end]) await client.close({ fd: each });
  },
  fallocate: (client, fd) => client.fallocate({ fd, offset: 0, length: 100 }),
  copy_file_range: (client, fd) =>
    client.copy_file_range({ fdIn: fd, offIn: 0, fdOut: fd, offOut: 3, length: 3 }),
};

/** Those that the server carries out whatever the mode: every generation looks before it asks for them. */
const OF_THE_SERVER = ['fallocate', 'copy_file_range'];

/** Modes before a stranger's write, and what SETATTR makes of them; null: nothing is asked. */
const MODES = [
  [0o4755, 0o755],
  [0o2755, 0o755],
  [0o6755, 0o755],
  // Without the group's right to execute the bit once meant mandatory locking.
  [0o2644, null],
  [0o755, null],
] as const;

for (const passthrough of ['auto', 'off'] as const) {
  const how = passthrough === 'auto' ? 'past the server' : 'to the server';
  guestTest(
    `a stranger who writes ${how} takes setuid away, and setgid where the group may execute (A42)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ allowOther: true, passthrough });
      await using client = await guest.client();
      await using stranger = await guest.client();
      const looks = passthrough === 'off' || guest.expected.removesPrivileges;
      const cases = MODES.flatMap(([mode, left]) =>
        Object.entries(WRITES).map(([what, write]) => ({
          mode,
          left,
          write,
          clears: left !== null && (looks || OF_THE_SERVER.includes(what)),
          name: `${mode.toString(8)} ${what}`,
        })),
      );
      const fds: number[] = [];
      for (const { name, mode } of cases) {
        await client.writeFile({ path: fuse.backing(name), data: 'program' });
        await client.chmod({ path: fuse.backing(name), mode });
        fds.push(await stranger.open({ path: fuse.file(name), flags: 'O_RDWR' }));
      }
      await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
      for (const [at, { name, left, write, clears }] of cases.entries()) {
        const fd = fds[at] ?? -1;
        const after = await fuse.position();
        await write(stranger, fd);
        const asked = (await fuse.requests({ opcode: 'SETATTR', after }))
          .filter(({ args }) => Number(args['valid']) & MODE)
          .map(({ args }) => Number(args['mode']) & 0o7777);
        t.deepEqual(asked, clears ? [left] : [], name);
        await stranger.close({ fd });
      }
      if (passthrough === 'auto') t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}

guestTest(
  'before setuid is cleared the mode is asked for: the rest of it is what the server says (A42)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: true, attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'program' });
    await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });
    await using stranger = await guest.client();
    const fd = await stranger.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await stranger.fstat({ fd });
    // The kernel believes the old mode for an hour.
    await client.chmod({ path: fuse.backing('f'), mode: 0o4711 });
    await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
    await stranger.pwrite({ fd, data: 'x', offset: 0 });
    const mode = ((await client.stat({ path: fuse.backing('f') })).mode & 0o7777).toString(8);
    t.is(mode, guest.expected.removesPrivileges ? '711' : '4711');
    await stranger.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'attributes that come anew make the next write look for file capabilities again (A42)',
  async (t, guest) => {
    guest.needs(guest.expected.removesPrivileges, 'look at capabilities of FUSE files in passthrough writes');
    await using fuse = await guest.mountFuse({
      init: { addFlags: ['HANDLE_KILLPRIV_V2'] },
      attrValidS: 3600,
    });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const asked = async () => {
      const after = await fuse.position();
      await client.pwrite({ fd, data: 'x', offset: 0 });
      return (await fuse.requests({ opcode: 'GETXATTR', after })).length;
    };
    t.is(await asked(), 1, 'the first write');
    t.is(await asked(), 0, 'the next: there was nothing to clear');
    await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
    t.is(await asked(), 1, 'somebody else may have set one meanwhile');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a server that clears setuid by itself (HANDLE_KILLPRIV) is not asked to by a stranger’s write (A42)',
  async (t, guest) => {
    for (const [init, modes] of [
      [{ addFlags: ['HANDLE_KILLPRIV'] }, []],
      [{}, [0o755]],
    ] as const) {
      await using fuse = await guest.mountFuse({ allowOther: true, passthrough: 'off', init });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'program' });
      await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });
      await using stranger = await guest.client();
      const fd = await stranger.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
      await stranger.pwrite({ fd, data: 'x', offset: 0 });
      const asked = (await fuse.requests('SETATTR'))
        .filter(({ args }) => Number(args['valid']) & MODE)
        .map(({ args }) => Number(args['mode']) & 0o7777);
      t.deepEqual(asked, modes, `modes that are asked for, with ${JSON.stringify(init)}`);
      await stranger.close({ fd });
    }
  },
);

guestTest('where the server does not take the setuid bit away nothing is written (A42)', async (t, guest) => {
  guest.needs(guest.expected.removesPrivileges, 'removal of privileges by passthrough writes');
  await using fuse = await guest.mountFuse({ allowOther: true });
  await using client = await guest.client();
  await using stranger = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'program' });
  await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });
  const fd = await stranger.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const [fdIn, end] = await stranger.pipe({});
  await stranger.write({ fd: end, data: 'x' });
  await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
  await fuse.fail('SETATTR', 'EROFS');
  t.is(await stranger.errno.pwrite({ fd, data: 'x', offset: 0 }), 'EROFS', 'write');
  const [aio] = await stranger.aio({ operations: [{ op: 'pwrite', fd, data: pattern(1), offset: 0 }] });
  t.is(aio?.result, 'EROFS', 'asynchronous write');
  t.is(await stranger.errno.splice({ fdIn, fdOut: fd, offOut: 0, length: 1 }), 'EROFS', 'splice');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'program', 'as it was');
  t.is((await client.stat({ path: fuse.backing('f') })).mode & 0o7777, 0o4755);
  for (const each of [fd, fdIn, end]) await stranger.close({ fd: each });
});

guestTest(
  'a stranger’s ftruncate asks for the mode, and sets it, by the handle of its open file (A42)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: true });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'program' });
    await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });
    const other = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const before = await fuse.position();
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const { reply } = await fuse.waitFor({ opcode: 'OPEN', after: before });
    await client.setCredentials({ uid: STRANGER, gid: STRANGER });
    const after = await fuse.position();
    await client.ftruncate({ fd, length: 3 });
    const sent = await fuse.requests({ opcode: ['GETATTR', 'SETATTR'], path: '/f', after });
    const fh = reply?.open?.fh ?? -1;
    t.deepEqual(
      sent.map(({ opcode, args }) => [opcode, args['fh']]),
      [
        ['GETATTR', fh],
        ['SETATTR', fh],
      ],
    );
    t.is(sent[0]?.args['getattr_flags'], GETATTR_FH, 'which counts');
    t.is((await client.fstat({ fd })).mode & 0o7777, 0o755);
    for (const each of [fd, other]) await client.close({ fd: each });
  },
);
