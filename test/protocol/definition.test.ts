import { describe, expect, it } from '@jest/globals';
import { FunctionsError } from '../../src/common/errors.js';
import {
  assertDefinition,
  checkParameters,
  definitionFingerprint,
  encodeDefinition,
  fitParameters,
  PARAMETER_TYPES,
  parseDefinition,
  type FunctionDefinition,
  type ParameterDefinition,
} from '../../src/protocol/definition.js';
import { caught } from '../harness/caught.js';

const define = (parameters?: readonly ParameterDefinition[]): FunctionDefinition => ({
  name: 'resize',
  workflowId: 'media',
  ...(parameters === undefined ? {} : { parameters }),
});
const asDefinition = (value: unknown): FunctionDefinition => value as FunctionDefinition;

describe('a definition', () => {
  it('may be nothing but names', () => {
    expect(() => assertDefinition(define())).not.toThrow();
  });

  it('may declare parameters of every type, with defaults', () => {
    const parameters = PARAMETER_TYPES.map((type) => ({ name: `a ${type}`, type }));
    expect(() =>
      assertDefinition(
        define([...parameters, { name: 'quality', type: 'integer', default: 80, required: true }]),
      ),
    ).not.toThrow();
  });

  it.each([
    ['an empty name', { ...define(), name: '' }, 'INVALID_NAME', 'The function name'],
    ['no name', { workflowId: 'w' }, 'INVALID_NAME', 'The function name'],
    ['a workflow by number', { ...define(), workflowId: 7 }, 'INVALID_NAME', 'The workflowId'],
    ['a description that is no text', { ...define(), description: 7 }, 'INVALID_ARGUMENT', 'descr'],
    [
      'parameters that are no list',
      { ...define(), parameters: {} },
      'INVALID_ARGUMENT',
      'an array',
    ],
    ['a parameter that is a word', define(['url'] as never), 'INVALID_ARGUMENT', 'parameters[0]'],
    ['a parameter of null', define([null] as never), 'INVALID_ARGUMENT', 'parameters[0]'],
    [
      'a parameter without a name',
      define([{ type: 'string' }] as never),
      'INVALID_NAME',
      'parameters[0].name',
    ],
    [
      'a parameter of an unknown type',
      define([{ name: 'a', type: 'date' }] as never),
      'INVALID_ARGUMENT',
      'allowed: string, number, integer, boolean, object, array, any',
    ],
    [
      'required that is a word',
      define([{ name: 'a', type: 'any', required: 'yes' }] as never),
      'INVALID_ARGUMENT',
      'parameters[0].required',
    ],
    [
      'a default of another type',
      define([{ name: 'a', type: 'integer', default: 1.5 }]),
      'INVALID_ARGUMENT',
      'parameters[0].default',
    ],
    [
      'a default that JSON cannot carry',
      define([{ name: 'a', type: 'any', default: 1n }]),
      'PAYLOAD_NOT_SERIALIZABLE',
      'BigInt',
    ],
    [
      'one name twice',
      define([
        { name: 'a', type: 'any' },
        { name: 'a', type: 'string' },
      ]),
      'INVALID_ARGUMENT',
      'parameters[1].name',
    ],
    [
      'a parameter __proto__, which no call can carry',
      define([{ name: '__proto__', type: 'any' }]),
      'INVALID_ARGUMENT',
      'parameters[0].name',
    ],
    [
      'a huge description',
      { ...define([]), description: 'x'.repeat(300_000) },
      'PAYLOAD_TOO_LARGE',
      'definition',
    ],
  ])('is refused for %s', (_, definition, code, text) => {
    const error = caught(() => assertDefinition(asDefinition(definition)));
    expect(error).toBeInstanceOf(FunctionsError);
    expect(error).toMatchObject({ code, message: expect.stringContaining(text) });
  });

  it('comes back from the registry as it was', () => {
    const definition = {
      ...define([{ name: 'a', type: 'string', default: 'x' }]),
      description: 'd',
    } as const;
    expect(parseDefinition(encodeDefinition(definition))).toEqual(definition);
  });

  it.each(['', 'x', '[]', 'null', '{}', '{"name":"a"}', '{"name":"a","workflowId":7}'])(
    'is not read from %j',
    (text) => {
      expect(parseDefinition(text)).toBeUndefined();
    },
  );

  it('has a fingerprint that changes with it, and only then', () => {
    const fingerprint = (definition: FunctionDefinition): string =>
      definitionFingerprint(encodeDefinition(definition));
    expect(fingerprint(define())).toBe(fingerprint(define()));
    expect(fingerprint(define([]))).not.toBe(fingerprint(define()));
  });
});

describe('parameters of a call', () => {
  const definition = define([
    { name: 'url', type: 'string', required: true },
    { name: 'width', type: 'integer' },
    { name: 'ratio', type: 'number' },
    { name: 'crop', type: 'boolean' },
    { name: 'tags', type: 'array' },
    { name: 'meta', type: 'object' },
    { name: 'extra', type: 'any' },
    { name: 'quality', type: 'integer', required: true, default: 80 },
  ]);

  it.each([
    [
      'all of them',
      { url: 'u', width: 1, ratio: 0.5, crop: true, tags: [], meta: {}, extra: null },
    ],
    ['the required ones', { url: 'u' }],
    ['an optional one as undefined', { url: 'u', width: undefined }],
    ['a Date where a text is wanted', { url: new Date(0) }],
  ])('fit: %s', (_, parameters) => {
    expect(checkParameters(definition, parameters)).toEqual([]);
  });

  it.each([
    ['a missing one', {}, [['url', 'it is required (string)']]],
    ['a required one as undefined', { url: undefined }, [['url', 'it is required (string)']]],
    ['null for a text', { url: null }, [['url', 'it is null, declared as string']]],
    ['a text for a whole number', { url: 'u', width: '1' }, [['width', 'declared as integer']]],
    ['half a whole number', { url: 'u', width: 1.5 }, [['width', 'declared as integer']]],
    ['NaN', { url: 'u', ratio: NaN }, [['ratio', 'it is NaN']]],
    ['1 for true', { url: 'u', crop: 1 }, [['crop', 'declared as boolean']]],
    ['an object for a list', { url: 'u', tags: {} }, [['tags', 'declared as array']]],
    ['a list for an object', { url: 'u', meta: [] }, [['meta', 'an array of 0']]],
    ['an unknown one', { url: 'u', hight: 1 }, [['hight', 'it is unknown (allowed: url, width']]],
    [
      'several at once',
      { width: 'x', hight: 1 },
      [
        ['url', 'required'],
        ['width', 'integer'],
        ['hight', 'unknown'],
      ],
    ],
    ['a list instead of named ones', [1], [['(all)', 'an array of 1, an object is needed']]],
    ['nothing', null, [['(all)', 'an object is needed']]],
  ])('are refused for %s', (_, parameters, violations) => {
    expect(checkParameters(definition, parameters)).toEqual(
      violations.map(([parameter, problem]) => ({
        parameter,
        problem: expect.stringContaining(problem as string),
      })),
    );
  });

  it('may be anything when the definition does not say', () => {
    expect(checkParameters(define(), 7)).toEqual([]);
  });

  it('are none when the definition says so', () => {
    expect(checkParameters(define([]), { a: 1 })).toEqual([
      { parameter: 'a', problem: 'it is unknown (allowed: none)' },
    ]);
  });

  const PROTOTYPE_NAMES = ['toString', 'constructor', 'hasOwnProperty', 'valueOf'];

  it.each(PROTOTYPE_NAMES)('are missing when only the prototype has them: %s', (name) => {
    const named = define([{ name, type: 'any', required: true }]);
    expect(checkParameters(named, {})).toEqual([
      { parameter: name, problem: 'it is required (any)' },
    ]);
  });

  it.each(PROTOTYPE_NAMES)('are unknown when they are called as the prototype: %s', (name) => {
    expect(checkParameters(define([]), { [name]: 1 })).toMatchObject([{ parameter: name }]);
  });

  it.each(PROTOTYPE_NAMES)('get their default when only the prototype has them: %s', (name) => {
    const named = define([{ name, type: 'any', default: 'd' }]);
    expect(fitParameters(named, {})).toEqual({ [name]: 'd' });
  });
});

describe('defaults', () => {
  const definition = define([
    { name: 'quality', type: 'integer', default: 80 },
    { name: 'tags', type: 'array', default: ['a'] },
    { name: 'url', type: 'string' },
  ]);

  it('stand where the caller passed nothing', () => {
    expect(fitParameters(definition, { url: 'u' })).toEqual({ url: 'u', quality: 80, tags: ['a'] });
  });

  it('stand where the caller passed undefined', () => {
    expect(fitParameters(definition, { quality: undefined })).toMatchObject({ quality: 80 });
  });

  it.each([0, null])('leave %j alone', (quality) => {
    expect(fitParameters(definition, { quality })).toMatchObject({ quality });
  });

  it('do not change what the caller passed', () => {
    const parameters = { url: 'u' };
    fitParameters(definition, parameters);
    expect(parameters).toEqual({ url: 'u' });
  });

  it('are a copy for each call', () => {
    const first = fitParameters(definition, {}) as { tags: string[] };
    first.tags.push('b');
    expect(fitParameters(definition, {})).toMatchObject({ tags: ['a'] });
  });

  it.each([7, null, [1]])('are not put into what is no object: %j', (parameters) => {
    expect(fitParameters(definition, parameters)).toBe(parameters);
  });
});

describe('parameters that a worker does not know', () => {
  const definition = define([{ name: 'url', type: 'string', required: true }]);

  it('are no reason to refuse a call there; missing ones and wrong types are', () => {
    expect(checkParameters(definition, { url: 'u', more: 1 }, 'dropped')).toEqual([]);
    expect(checkParameters(definition, { more: 1 }, 'dropped')).toMatchObject([
      { parameter: 'url' },
    ]);
    expect(checkParameters(definition, { url: 1, more: 1 }, 'dropped')).toMatchObject([
      { parameter: 'url' },
    ]);
  });

  it('do not reach the handler, beside defaults either', () => {
    expect(fitParameters(definition, { url: 'u', more: 1, toString: 2 })).toEqual({ url: 'u' });
    const withDefault = define([{ name: 'quality', type: 'integer', default: 80 }]);
    expect(fitParameters(withDefault, { more: 1 })).toEqual({ quality: 80 });
  });

  it('do reach a handler whose definition says nothing of parameters', () => {
    expect(fitParameters(define(), { more: 1 })).toEqual({ more: 1 });
  });
});
