import { guestTest } from '../lib/guest-test.ts';

/** `FATTR_MODE` of SETATTR's `valid`. */
const MODE = 1 << 0;
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
