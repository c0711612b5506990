import type { TreeOperation, TreeOperationName } from './operation.ts';

/** `other`: neither directory nor regular file. */
export type Kind = 'directory' | 'file' | 'other';

/** Which names there are, as far as it can be known without looking. The top is not among them. */
export type TreeModel = ReadonlyMap<string, Kind>;

export const EMPTY_TREE: TreeModel = new Map();

/** What a place cannot do as a directory of its own would. */
export interface Limits {
  /** Renaming a directory is EXDEV there, where another layer has it. */
  readonly movesDirectories: boolean;
  /** Flags of rename are refused. */
  readonly knowsRenameFlags: boolean;
  /** What gives something else there, as it is known to. */
  readonly without: readonly TreeOperationName[];
}

/** Why an operation is left out here, or undefined. */
export function leftOut(operation: TreeOperation, model: TreeModel, limits: Limits): string | undefined {
  if (limits.without.includes(operation.do)) return 'known to differ';
  if (operation.do === 'hold' && model.get(operation.path) === 'other') {
    return 'what is written to a pipe is no matter of its filesystem';
  }
  if (operation.do !== 'rename') return undefined;
  const { from, to, flags } = operation;
  if (flags !== '' && !limits.knowsRenameFlags) return 'EINVAL';
  const moved = flags === 'RENAME_EXCHANGE' ? [from, to] : [from];
  const directory = moved.some((path) => model.get(path) === 'directory');
  return directory && !limits.movesDirectories ? 'EXDEV' : undefined;
}

/** The tree after an operation, if that works: most of what is drawn does. */
export function after(model: TreeModel, operation: TreeOperation): TreeModel {
  switch (operation.do) {
    case 'mkdir':
      return made(model, operation.path, 'directory');
    case 'create':
      return made(model, operation.path, 'file');
    case 'symlink':
    case 'mkfifo':
      return made(model, operation.path, 'other');
    case 'link':
      return linked(model, operation);
    case 'unlink':
      return model.get(operation.path) === 'directory' ? model : without(model, operation.path);
    case 'rmdir':
      return isEmptyDirectory(model, operation.path) ? without(model, operation.path) : model;
    case 'rename':
      return renamed(model, operation);
    default:
      return model;
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

function hasParent(model: TreeModel, path: string): boolean {
  const parent = parentOf(path);
  return parent === '' || model.get(parent) === 'directory';
}

function made(model: TreeModel, path: string, kind: Kind): TreeModel {
  return model.has(path) || !hasParent(model, path) ? model : new Map([...model, [path, kind]]);
}

function linked(model: TreeModel, { from, to }: Extract<TreeOperation, { do: 'link' }>): TreeModel {
  const kind = model.get(from);
  return kind === undefined || kind === 'directory' ? model : made(model, to, kind);
}

function without(model: TreeModel, path: string): TreeModel {
  return new Map([...model].filter(([name]) => name !== path));
}

function isEmptyDirectory(model: TreeModel, path: string): boolean {
  return model.get(path) === 'directory' && ![...model.keys()].some((name) => name.startsWith(`${path}/`));
}

function renamed(model: TreeModel, { from, to, flags }: Extract<TreeOperation, { do: 'rename' }>): TreeModel {
  const [kind, target] = [model.get(from), model.get(to)];
  if (kind === undefined || from === to || !hasParent(model, to)) return model;
  if (to.startsWith(`${from}/`) || from.startsWith(`${to}/`)) return model;
  if (flags === 'RENAME_EXCHANGE') {
    if (target === undefined) return model;
    return new Map(
      [...model]
        .map(([name, each]) => [moved(moved(name, from, '\0'), to, from), each] as const)
        .map(([name, each]) => [moved(name, '\0', to), each] as const),
    );
  }
  if (target !== undefined) {
    if (flags === 'RENAME_NOREPLACE' || (target === 'directory') !== (kind === 'directory')) return model;
    if (kind === 'directory' && !isEmptyDirectory(model, to)) return model;
  }
  return new Map(
    [...model].filter(([name]) => name !== to).map(([name, each]) => [moved(name, from, to), each]),
  );
}

/** The name of what was below `from` once that is called `to`. */
function moved(name: string, from: string, to: string): string {
  return name === from || name.startsWith(`${from}/`) ? to + name.slice(from.length) : name;
}

/** The sequence without what is left out where it stands: removing a step may change what later ones meet. */
export function admissible(operations: readonly TreeOperation[], limits: Limits): TreeOperation[] {
  let model = EMPTY_TREE;
  return operations.filter((operation) => {
    if (leftOut(operation, model, limits) !== undefined) return false;
    model = after(model, operation);
    return true;
  });
}
