import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** FUSE_CREATE_SUPP_GROUP: the server is told of the one group that who makes a name has in common with the directory. */

const USER = 4000;
const [ROOT, OWN, MEMBER, FURTHER, FOREIGN] = [0, 4001, 4002, 4003, 4004];

/** Calls that make a name, by the request that they send. */
const MAKING: Readonly<Partial<Record<OpcodeName, (client: Client, path: string) => Promise<unknown>>>> = {
  MKDIR: (client, path) => client.mkdir({ path }),
  MKNOD: (client, path) => client.mknod({ path, mode: 0o010_600 }),
  SYMLINK: (client, path) => client.symlink({ target: 'anywhere', path }),
  CREATE: async (client, path) =>
    client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_CREAT|O_EXCL' }) }),
};

/** The group of a directory, and those that the server is told of. */
const DIRECTORIES: Readonly<Record<string, readonly [gid: number, told: readonly string[] | undefined]>> = {
  'of the caller’s own group': [OWN, undefined],
  'of a group that the caller is in, too': [MEMBER, [String(MEMBER)]],
  'of root’s group, which the caller is in, too': [ROOT, [String(ROOT)]],
  'of a group that the caller is not in': [FOREIGN, undefined],
};

for (const agreed of [true, false]) {
  const title = agreed
    ? 'who makes a name in a directory of a group that it is in is told with that group, no other'
    : 'without CREATE_SUPP_GROUP no group is told but that of the caller';
  guestTest(title, async (t, guest) => {
    const offered = guest.expected.offers.includes('CREATE_SUPP_GROUP');
    guest.needs(offered, 'supplementary groups in requests');
    await using fuse = await guest.mountFuse({ init: agreed ? { addFlags: ['CREATE_SUPP_GROUP'] } : {} });
    await using root = await guest.client();
    await using client = await guest.client();
    await client.chdir({ path: fuse.path });
    await client.setCredentials({ uid: USER, gid: OWN, groups: [FURTHER, MEMBER, ROOT] });
    for (const [what, [gid, told]] of Object.entries(DIRECTORIES)) {
      await root.mkdir({ path: fuse.backing(what) });
      await root.chown({ path: fuse.backing(what), uid: 0, gid });
      for (const [opcode, make] of Object.entries(MAKING)) {
        await make(client, `${what}/${opcode}`);
        const [request] = await fuse.requests({ opcode: opcode as OpcodeName, path: `/${what}/${opcode}` });
        t.like(request, { uid: USER, gid: OWN }, `${opcode} in a directory ${what}`);
        t.is(request?.args['name'], opcode, `${opcode} in a directory ${what}: its name`);
        t.deepEqual(request?.args['groups'], agreed ? told : undefined, `${opcode} in a directory ${what}`);
      }
    }
  });
}

guestTest(
  'who makes a name with another effective group is told with the group of the directory that is its real one',
  async (t, guest) => {
    guest.needs(guest.expected.offers.includes('CREATE_SUPP_GROUP'), 'supplementary groups in requests');
    await using fuse = await guest.mountFuse({ init: { addFlags: ['CREATE_SUPP_GROUP'] } });
    await using root = await guest.client();
    await using client = await guest.client();
    await client.chdir({ path: fuse.path });
    // Real, effective, saved.
    await client.setCredentials({ uid: USER, gid: [MEMBER, OWN, OWN], groups: [OWN, MEMBER] });
    for (const [name, gid, told] of [
      ['of the real group', MEMBER, [String(MEMBER)]],
      ['of the effective group', OWN, undefined],
    ] as const) {
      await root.mkdir({ path: fuse.backing(name) });
      await root.chown({ path: fuse.backing(name), uid: 0, gid });
      await client.mkdir({ path: `${name}/made` });
      const [request] = await fuse.requests({ opcode: 'MKDIR', path: `/${name}/made` });
      t.like(request, { uid: USER, gid: OWN }, name);
      t.deepEqual(request?.args['groups'], told, name);
    }
  },
);
