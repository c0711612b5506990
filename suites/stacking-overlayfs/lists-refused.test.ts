import { aclFor } from '../lib/access-control-list.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { lowerOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** Access control lists that a layer's server does not tell or take, while files are made and copied up. */

const [ACCESS, DEFAULT] = ['system.posix_acl_access', 'system.posix_acl_default'];
const [OWNER, NAMED, READ] = [1234, 1500, 4];
const LISTS = { init: { ...WITHOUT_PASSTHROUGH, addFlags: ['POSIX_ACL'] } } as const;

guestTest(
  'a file made where one was removed has all lists of its directory or is not there (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, undefined, LISTS);
    const { overlay, fuse, lower } = stack;
    const names = ['f1', 'd1', 'd2'];
    await fill(client, lower, names);
    await client.setxattr({ path: overlay.path, name: DEFAULT, data: aclFor([NAMED], READ) });
    for (const name of names) await client.unlink({ path: overlay.file(name) });
    for (const [name, nth] of [
      ['f1', 1],
      ['d1', 1],
      ['d2', 2],
    ] as const) {
      const path = overlay.file(name);
      const make = () => (name.startsWith('f') ? client.errno.creat({ path }) : client.errno.mkdir({ path }));
      const title = `list ${nth} of ${name}`;
      const permit = await fuse.rule({
        match: { opcode: 'SETXATTR' },
        nth,
        times: 1,
        action: { do: 'error', errno: 'EDQUOT' },
      });
      t.is(await make(), 'EDQUOT', title);
      await permit();
      t.is(await client.errno.lstat({ path }), 'ENOENT', title);
      t.is(await make(), 'ok', `${title}: and then not`);
      t.is(await client.errno.getxattr({ path, name: ACCESS }), 'ok', `${title}: for access`);
      const inherits = await client.errno.getxattr({ path, name: DEFAULT });
      t.is(inherits, name.startsWith('d') ? 'ok' : 'ENODATA', `${title}: for what is made in it`);
    }
  },
);

guestTest(
  'nothing is made where something was removed while the lists of its directory are not told (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, undefined, LISTS);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['f', 'd']);
    for (const name of ['f', 'd']) await client.unlink({ path: overlay.file(name) });
    await client.setxattr({ path: overlay.path, name: DEFAULT, data: aclFor([NAMED], READ) });
    const changes = {
      f: () => client.errno.creat({ path: overlay.file('f') }),
      d: () => client.errno.mkdir({ path: overlay.file('d') }),
    };
    for (const [name, change] of Object.entries(changes)) {
      const permit = await fuse.fail({ opcode: 'GETXATTR', path: '/upper' }, 'EDQUOT');
      t.is(await change(), 'EDQUOT', name);
      await permit();
      t.is(await client.errno.lstat({ path: overlay.file(name) }), 'ENOENT', name);
      t.is(await change(), 'ok', `${name}: later`);
      t.is(
        await client.errno.getxattr({ path: overlay.file(name), name: ACCESS }),
        'ok',
        `${name}: its list`,
      );
    }
  },
);

guestTest(
  'a copy-up ends where the list of a file is not told, but not where there is none (A45)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'copies of lists as such: they came with 6.2');
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client, LISTS);
    const { overlay, fuse, upper } = stack;
    for (const [name, errno, gives, kept] of [
      ['a', 'EDQUOT', 'EDQUOT', false],
      ['b', 'ENODATA', 'ok', false],
      ['c', 'EOPNOTSUPP', 'ok', false],
      ['d', undefined, 'ok', true],
    ] as const) {
      const at = fuse.backing(name);
      await client.writeFile({ path: at, data: 'from below', mode: 0o644 });
      await client.setxattr({ path: at, name: ACCESS, data: aclFor([NAMED], READ) });
      await client.stat({ path: overlay.file(name) });
      const rule = { match: { opcode: 'GETXATTR', path: `/${name}` } } as const;
      const permit =
        errno === undefined ? undefined : await fuse.rule({ ...rule, action: { do: 'error', errno } });
      t.is(await client.errno.chown({ path: overlay.file(name), uid: 1, gid: 1 }), gives, errno ?? 'told');
      await permit?.();
      const copied = await client.errno.getxattr({ path: `${upper}/${name}`, name: ACCESS });
      t.is(copied, kept ? 'ok' : gives === 'ok' ? 'ENODATA' : 'ENOENT', errno ?? 'told');
    }
  },
);

guestTest('a copy-up ends where the upper layer does not take the list of a file (A45)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client, undefined, LISTS);
  const { overlay, fuse, lower } = stack;
  await fill(client, lower, ['f', 'd/']);
  for (const name of ['f', 'd']) {
    await client.setxattr({ path: `${lower}/${name}`, name: ACCESS, data: aclFor([NAMED], READ) });
    const path = overlay.file(name);
    const action = { do: 'error', errno: 'EDQUOT' } as const;
    // The list is the first attribute that it gets.
    const permit = await fuse.rule({ match: { opcode: 'SETXATTR' }, nth: 1, times: 1, action });
    t.is(await client.errno.chown({ path, uid: 1, gid: 1 }), 'EDQUOT', name);
    await permit();
    t.is(await client.errno.stat({ path: fuse.backing(`upper/${name}`) }), 'ENOENT', name);
    t.is(await client.errno.chown({ path, uid: 1, gid: 1 }), 'ok', `${name}: later`);
    t.is(await client.errno.getxattr({ path, name: ACCESS }), 'ok', `${name}: its list`);
  }
});

guestTest(
  'a file that cannot have a list on one of its layers gets none on the overlay, and is not copied up for it (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    await using ramfs = await guest.mount({ source: 'none', type: 'ramfs' }, client);
    const [lower, without] = [await guest.directory('ext4', 'lower'), ramfs.file('lower')];
    await fill(client, ramfs.path, ['lower/', 'upper/', 'work/']);
    for (const at of [without, lower]) await fill(client, at, ['f', 'd/']);
    for (const [what, layers, errno] of [
      ['the lower one', { lower: without, ...(await upperOn(guest)) }, 'EOPNOTSUPP'],
      ['the upper one', { lower, upper: ramfs.file('upper'), work: ramfs.file('work') }, 'EOPNOTSUPP'],
      ['none', { lower, ...(await upperOn(guest)) }, 'ok'],
    ] as const) {
      await using overlay = await guest.mountOverlay(layers, client);
      for (const [name, list] of [
        ['f', ACCESS],
        ['d', ACCESS],
        ['d', DEFAULT],
      ] as const) {
        const path = overlay.file(name);
        const title = `${what} is without lists: ${list} of ${name}`;
        t.is(await client.errno.setxattr({ path, name: list, data: aclFor([NAMED], READ) }), errno, title);
      }
      const copied = errno === 'ok' ? ['d', 'f'] : [];
      t.deepEqual(await client.readdir({ path: layers.upper }), copied, `${what} is without lists`);
    }
  },
);

guestTest(
  'a list that is refused while its file is copied up or loses its setgid bit is not there (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, undefined, LISTS);
    const { overlay, fuse, lower } = stack;
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await fill(client, lower, ['low']);
    await fill(client, overlay.path, ['own']);
    await client.chown({ path: overlay.file('own'), uid: OWNER, gid: 0 });
    await client.chmod({ path: overlay.file('own'), mode: 0o2770 });
    await using owner = await guest.client();
    await owner.chdir({ path: overlay.path });
    await owner.setCredentials({ uid: OWNER, gid: OWNER });
    for (const [who, name, opcode] of [
      [client, 'low', ['CREATE', 'MKNOD', 'TMPFILE']],
      [owner, 'own', 'SETATTR'],
    ] as const) {
      const path = overlay.file(name);
      const set = () => who.errno.setxattr({ path, name: ACCESS, data: aclFor([NAMED], READ) });
      const permit = await fuse.fail({ opcode }, 'EDQUOT');
      t.is(await set(), 'EDQUOT', name);
      await permit();
      t.is(await client.errno.getxattr({ path, name: ACCESS }), 'ENODATA', name);
      t.is(await set(), 'ok', `${name}, later`);
      t.is(await client.errno.getxattr({ path, name: ACCESS }), 'ok', `${name}, later`);
    }
    t.is((await client.stat({ path: overlay.file('own') })).mode & 0o2000, 0, 'the setgid bit, later');
  },
);
