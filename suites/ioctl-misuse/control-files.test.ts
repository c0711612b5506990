import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountedAt } from '../lib/mounted-at.ts';

/** The files of a connection in fusectl (filesystems/fuse.rst). */

const CONNECTIONS = '/sys/fs/fuse/connections';
const LIMITS = ['max_background', 'congestion_threshold'] as const;
const WITHOUT_SYS_ADMIN = ['setpriv', '--bounding-set', '-sys_admin'];
/** With which a server gets no more than a user does: it has every capability, but in its own namespace. */
const ELSEWHERE = ['unshare', '--user', '--map-root-user', '--mount'];

function control({ connection }: FuseMount, name: string): string {
  return `${CONNECTIONS}/${connection}/${name}`;
}

async function valueOf(client: Client, path: string): Promise<string> {
  return text(await client.readFile({ path })).trim();
}

function set(client: Client, path: string, data: string): Promise<string> {
  return client.errno.writeFile({ path, data, flags: 'O_WRONLY' });
}

/** The most that a user may set a limit to. */
async function mostOfAUser(client: Client, limit: (typeof LIMITS)[number]): Promise<number> {
  const name = limit === 'max_background' ? 'max_user_bgreq' : 'max_user_congthresh';
  return Number(await valueOf(client, `/sys/module/fuse/parameters/${name}`));
}

/** What is written, the outcome, and what is read then. */
const NUMBERS: readonly (readonly [string, string, string])[] = [
  ['5', 'ok', '5'],
  ['0x10\n', 'ok', '16'],
  ['0', 'ok', '0'],
  ['65535', 'ok', '65535'],
  ['65536', 'EINVAL', '65535'],
  ['-1', 'EINVAL', '65535'],
  ['many', 'EINVAL', '65535'],
  ['7 or 8', 'EINVAL', '65535'],
  ['99999999999999999999999', 'ERANGE', '65535'],
];

for (const limit of LIMITS) {
  guestTest(
    `${limit} of a connection is what was written to it, if that is a number of 16 bits`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse();
      await using client = await guest.client();
      const path = control(fuse, limit);
      const [other = ''] = LIMITS.filter((each) => each !== limit);
      const before = await valueOf(client, control(fuse, other));
      for (const [written, errno, then] of NUMBERS) {
        t.is(await set(client, path, written), errno, `${JSON.stringify(written)} is written`);
        t.is(await valueOf(client, path), then, `what is read after ${JSON.stringify(written)}`);
      }
      const fd = await client.open({ path, flags: 'O_RDWR' });
      for (const data of ['11', '12']) t.is(await client.write({ fd, data }), 2, `${data} is written`);
      t.is(text(await client.read({ fd, count: 10 })), '12\n');
      t.is(await client.errno.write({ fd, data: '13' }), 'EINVAL', 'a number behind what was read');
      t.is(await client.errno.pwrite({ fd, data: '13', offset: 0 }), 'ESPIPE', 'there is no position');
      await client.close({ fd });
      t.is(await valueOf(client, path), '12');
      t.is(await valueOf(client, control(fuse, other)), before, `${other} stays`);
    },
  );

  guestTest(`without CAP_SYS_ADMIN ${limit} is no more than what users get`, async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using limited = await guest.client({ launcher: WITHOUT_SYS_ADMIN });
    const most = await mostOfAUser(client, limit);
    const path = control(fuse, limit);
    t.is(await set(limited, path, String(most)), 'ok', 'as much as users get');
    t.is(await set(limited, path, String(most + 1)), 'EINVAL', 'one more');
    t.is(await valueOf(client, path), String(most));
    t.is(await set(client, path, String(most + 1)), 'ok', 'one more, with the capability');
  });
}

guestTest(
  'a server of another user namespace gets no higher limits by INIT than what users get (B25)',
  async (t, guest) => {
    const init = { maxBackground: 65_535, congestionThreshold: 65_534 } as const;
    await using client = await guest.client();
    const limitsOf = async (fuse: FuseMount): Promise<string[]> => [
      await valueOf(client, control(fuse, 'max_background')),
      await valueOf(client, control(fuse, 'congestion_threshold')),
    ];
    await using privileged = await guest.mountFuse({ init });
    t.deepEqual(await limitsOf(privileged), ['65535', '65534'], 'with CAP_SYS_ADMIN');
    await using server = await guest.server({ launcher: ELSEWHERE });
    await using fuse = await guest.mountFuse({ server, passthrough: 'off', init });
    const most = [
      await mostOfAUser(client, 'max_background'),
      await mostOfAUser(client, 'congestion_threshold'),
    ];
    t.deepEqual(await limitsOf(fuse), most.map(String), 'in a namespace of its own');
    const fewer = { maxBackground: 6, congestionThreshold: 4 } as const;
    await using modest = await guest.server({ launcher: ELSEWHERE });
    await using less = await guest.mountFuse({ server: modest, passthrough: 'off', init: fewer });
    t.deepEqual(await limitsOf(less), ['6', '4'], 'what is less');
  },
);

guestTest('a higher max_background lets requests go that wait in the kernel', async (t, guest) => {
  const init = { maxBackground: 2, congestionThreshold: 1, addFlags: ['ASYNC_DIO'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using client = await guest.client();
  await using other = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(6 * 4096) });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
  const hold = await fuse.hold('READ');
  const operations = [0, 1, 2, 3, 4, 5].map(
    (at) => ({ op: 'pread', fd, count: 4096, offset: at * 4096 }) as const,
  );
  const reading = client.aio({ operations });
  reading.catch(() => undefined);
  const held = [await hold.arrived(), await hold.arrived()];
  // The third is kept from being sent, and with it its caller.
  const waiting = await eventually(
    () => fuse.waiting(),
    (count) => count === 3,
  );
  t.is(waiting, 3, 'two at the server, and one caller');
  t.is(await set(other, control(fuse, 'max_background'), '6'), 'ok');
  while (held.length < 6) held.push(await hold.arrived());
  t.deepEqual(
    held.map(({ args }) => args['offset']),
    operations.map(({ offset }) => offset),
    'all six at the server, in their order',
  );
  await hold.stop();
  for (const request of held) await hold.release(request);
  t.deepEqual(
    (await reading).map(({ result }) => result),
    operations.map(({ count }) => count),
  );
  await client.close({ fd });
});

guestTest(
  'the files of a connection belong to the owner of the mount and are nobody else’s',
  async (t, guest) => {
    await using client = await guest.client();
    const fd = await client.open({ path: '/dev/fuse', flags: 'O_RDWR' });
    const links = async (): Promise<number> => (await client.stat({ path: CONNECTIONS })).nlink;
    const before = await links();
    const clock = `${await guest.directory('tmpfs')}/clock`;
    const now = async (): Promise<number> => {
      await client.writeFile({ path: clock, data: 'tick' });
      return (await client.stat({ path: clock })).mtimeNs;
    };
    const earlier = await now();
    const options = `fd=${fd},rootmode=40000,user_id=7,group_id=8`;
    await using mount = await guest.mount({ source: 'owned', type: 'fuse', options }, client);
    const { minor } = await mountedAt(client, mount.path);
    const directory = `${CONNECTIONS}/${minor}`;
    const later = await now();
    t.is(await links(), before + 1, 'each directory is a link of the one above');
    const rights: Record<string, string> = {};
    for (const name of ['.', ...(await client.readdir({ path: directory }))]) {
      const { mode, uid, gid, mtimeNs } = await client.stat({ path: `${directory}/${name}` });
      rights[name] = `${mode.toString(8)} ${uid}:${gid}`;
      t.true(mtimeNs >= earlier && mtimeNs <= later, `${name}: it is as old as the mount`);
    }
    t.deepEqual(rights, {
      '.': '40500 7:8',
      abort: '100200 7:8',
      congestion_threshold: '100600 7:8',
      max_background: '100600 7:8',
      waiting: '100400 7:8',
    });
    t.is(await mount.unmount(), 'ok');
    t.is(await client.errno.stat({ path: directory }), 'ENOENT', 'gone with the mount');
    t.is(await links(), before, 'and so is its link');
  },
);

guestTest(
  'the control files of a connection that is over are empty, and take what they get',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const open = await Promise.all(
      ['waiting', 'max_background', 'congestion_threshold'].map((name) =>
        client.open({ path: control(fuse, name), flags: 'O_RDONLY' }),
      ),
    );
    const written = await Promise.all(
      ['abort', ...LIMITS].map((name) => client.open({ path: control(fuse, name), flags: 'O_WRONLY' })),
    );
    t.is(await fuse.unmount(), 'ok');
    for (const fd of open)
      t.deepEqual(await client.read({ fd, count: 10 }), new Uint8Array(), 'what is read');
    for (const fd of written) t.is(await client.write({ fd, data: '5' }), 1, 'what is written is lost');
    for (const fd of [...open, ...written]) await client.close({ fd });
  },
);

guestTest(
  'files of a connection that were read keep neither it nor what is registered with it (C12)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
    for (const name of ['waiting', ...LIMITS]) {
      t.regex(await valueOf(client, control(fuse, name)), /^[0-9]+$/, name);
    }
    t.is(await guest.umountBacking(), 'EBUSY', 'registered');
    t.is(await fuse.unmount(), 'ok');
    await fuse.server.closeDevice(0);
    t.false(await guest.isBackingBusy());
  },
);

guestTest(
  'each limit is held to its own parameter, in INIT and in the files of the connection (B25)',
  async (t, guest) => {
    await using client = await guest.client();
    await using limited = await guest.client({ launcher: WITHOUT_SYS_ADMIN });
    const parameters = '/sys/module/fuse/parameters';
    const paths = ['max_user_bgreq', 'max_user_congthresh'].map((name) => `${parameters}/${name}`);
    const before = await Promise.all(paths.map((path) => valueOf(client, path)));
    const init = { maxBackground: 65_535, congestionThreshold: 65_534 } as const;
    const values = ['21', '30'];
    try {
      for (const [nth, path] of paths.entries()) await set(client, path, values[nth] ?? '');
      await using server = await guest.server({ launcher: ELSEWHERE });
      await using fuse = await guest.mountFuse({ server, passthrough: 'off', init });
      for (const [nth, limit] of LIMITS.entries()) {
        const path = control(fuse, limit);
        const most = Number(values[nth]);
        t.is(await valueOf(client, path), String(most), `${limit} by INIT`);
        t.is(await set(limited, path, String(most + 1)), 'EINVAL', `${limit} by a file, one more`);
        t.is(await set(limited, path, String(most)), 'ok', `${limit} by a file`);
      }
    } finally {
      for (const [nth, path] of paths.entries()) await set(client, path, before[nth] ?? '0');
    }
  },
);

for (const name of ['max_user_bgreq', 'max_user_congthresh']) {
  guestTest(`${name} is at most 65535, and of the size of memory when it is set to 0`, async (t, guest) => {
    await using client = await guest.client();
    const path = `/sys/module/fuse/parameters/${name}`;
    const before = await valueOf(client, path);
    const memory = text(await client.readFile({ path: '/proc/meminfo' }));
    const bytes = Number(/^MemTotal: +(\d+) kB$/m.exec(memory)?.[1]) * 1024;
    const usual = String(Math.min(65_535, Math.floor(Math.floor(bytes / 8192) / 392)));
    const written: readonly (readonly [string, string, string])[] = [
      ['7', 'ok', '7'],
      ['65535', 'ok', '65535'],
      ['65536', 'ok', '65535'],
      ['4294967295', 'ok', '65535'],
      ['8', 'ok', '8'],
      ['many', 'EINVAL', '8'],
      ['-1', 'EINVAL', '8'],
      ['0', 'ok', usual],
    ];
    for (const [value, errno, then] of written) {
      t.is(await set(client, path, value), errno, `${value} is written`);
      t.is(await valueOf(client, path), then, `what is read after ${value}`);
    }
    t.is(await set(client, path, before), 'ok', 'as it was');
  });
}
